# Common tasks. Each target also runs by hand.
python = .venv/bin/python

.PHONY: run test test-all lint format bench lock

run: ## the page on http://127.0.0.1:7860
	bash script/run

test: .venv ## the quick tests, under two minutes
	$(python) -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not soak and not slow and not browser and not postgres"

test-all: ## every test; installs a browser and PostgreSQL where there are none
	bash script/test

lint: .venv ## style and types
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m pyright --pythonpath $(python)
	$(python) -m bandit -q -c pyproject.toml -r app.py kolbo_demo benchmarks fitting

format: .venv
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

bench: .venv ## one of the benchmarks: make bench NAME=page
	$(python) -m benchmarks $(NAME)

lock: ## renew requirements.lock and requirements-dev.lock
	bash script/lock --upgrade

.venv: requirements-dev.lock
	bash script/setup requirements-dev.lock
	touch .venv
