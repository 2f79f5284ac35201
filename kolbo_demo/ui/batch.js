// Shows the batches of this browser. It keeps their tickets, and asks the server after them while
// anything changes. `element`, `props`, `trigger` and `watch` are given by Gradio.
const STORE = 'kolbo-batches';
const MOST = 5;
const texts = element.querySelector('.batches').dataset;
const list = element.querySelector('.list');
let tickets = load();
let timer = 0;
let misses = 0;

function load() {
  return recall(STORE).filter((ticket) => typeof ticket === 'string').slice(0, MOST);
}

function hold(wanted) {
  tickets = wanted.slice(0, MOST);
  keep(STORE, tickets);
}

async function look() {
  clearTimeout(timer);
  if (!tickets.length) return draw([]);
  let running = true;
  try {
    const cards = await post('batches', { tickets });
    const gone = cards.filter((card) => card.gone).map((card) => card.ticket);
    if (gone.length) hold(tickets.filter((ticket) => !gone.includes(ticket)));
    draw(cards.filter((card) => !card.gone));
    running = cards.some((card) => card.running);
    misses = 0;
  } catch {
    misses += 1;
  }
  element.querySelector('.offline').hidden = misses < 2;
  if (running) timer = setTimeout(look, Math.min(1500 * 2 ** misses, 12000));
}

function draw(cards) {
  for (const old of [...list.children]) {
    if (!cards.some((card) => card.ticket === old.dataset.batch)) old.remove();
  }
  cards.forEach((card, at) => {
    let node = [...list.children].find((each) => each.dataset.batch === card.ticket);
    if (!node) {
      node = element.querySelector('template').content.firstElementChild.cloneNode(true);
      node.dataset.batch = card.ticket;
    }
    if (list.children[at] !== node) list.insertBefore(node, list.children[at] || null);
    const live = node.querySelector('.live');
    if (live.textContent !== card.live) live.textContent = card.live;
    put(node.querySelector('.head'), card.head);
    const body = node.querySelector('tbody');
    card.rows.forEach((html, row) => put(body.rows[row] || body.insertRow(), html));
  });
}

const actions = {
  start: (ticket) => trigger('start', { ticket }),
  again: (ticket) => trigger('start', { ticket, again: true }),
  async stop(ticket) {
    if (await ask(texts.askStop, texts.stop)) await post(`batches/${ticket}/stop`);
  },
  async delete(ticket) {
    if (!(await ask(texts.askDelete, texts.delete))) return;
    await post(`batches/${ticket}/delete`);
    hold(tickets.filter((each) => each !== ticket));
  },
};

element.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-do]');
  const ticket = button?.closest('[data-batch]')?.dataset.batch;
  if (!ticket) return;
  button.disabled = true;
  try {
    await actions[button.dataset.do](ticket);
  } catch {
    misses = 2;
  }
  button.disabled = false;
  look();
});

watch('told', () => {
  const told = props.told || {};
  const problem = element.querySelector('.problem');
  put(problem, told.problem || '');
  if (told.ticket) hold([told.ticket, ...load().filter((ticket) => ticket !== told.ticket)]);
  if (told.problem) problem.scrollIntoView({ block: 'nearest' });
  look();
});

// Gradio puts one button into another there, and names the outer one by a text that it lacks.
new MutationObserver(() => {
  for (const outer of document.querySelectorAll('#batch .icon-button:not([role]):has(button)')) {
    outer.setAttribute('role', 'group');
    outer.tabIndex = -1;
    outer.title = texts.add;
    outer.setAttribute('aria-label', texts.add);
  }
}).observe(document.querySelector('#batch'), { childList: true, subtree: true });

document.addEventListener('visibilitychange', () => document.hidden || look());
addEventListener('online', look);
look();
