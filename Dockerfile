# The page with its service and engine: docker build -t kolbo-lipsync . && docker run -p 127.0.0.1:7860:7860 kolbo-lipsync
# A worker: the same image with the command `python -m kolbo_demo worker`; compose.yaml starts several.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1
WORKDIR /app

COPY requirements.txt requirements-scale.txt requirements.lock requirements-dev.lock ./
RUN pip install --require-hashes -r requirements.lock \
    && sed '/^ *--hash=/d; s/ *\\$//' requirements-dev.lock > /tmp/versions \
    && pip install -r requirements-scale.txt -c /tmp/versions

# Owned by root: the user that serves and renders cannot change the code.
COPY app.py ./
COPY assets assets
COPY kolbo_demo kolbo_demo
RUN python -m compileall -q app.py kolbo_demo \
    && useradd --uid 1000 --create-home kolbo \
    && install -d -o kolbo -g kolbo -m 700 /data
USER kolbo

ENV KOLBO_DATA_DIR=/data GRADIO_TEMP_DIR=/data/uploads GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860
VOLUME /data
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=5)"]
STOPSIGNAL SIGTERM
CMD ["python", "app.py"]
