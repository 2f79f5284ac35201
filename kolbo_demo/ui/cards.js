// Shows the generations of this browser. It keeps tickets and generation ids, never a key, and asks
// the server after them until nothing changes any more. `element`, `props`, `trigger` and `watch`
// are given by Gradio.
const STORE = 'kolbo-generations';
const MOST = 60;
const texts = element.querySelector('.cards').dataset; // in the visitor's language
const stage = element.querySelector('.runs');
const history = () => document.querySelector('#history .list');
const known = new Map(); // ticket -> the card as the server gave it last
let entries = load();
let open = null;
let timer = 0;
let misses = 0;

function load() {
  return recall(STORE).filter((entry) => typeof entry?.ticket === 'string').slice(0, MOST);
}

function save() {
  if (keep(STORE, entries)) return;
  // Then the address brings the last one back after a reload.
  const url = new URL(location.href);
  const last = entries.find((entry) => entry.id);
  if (last) url.searchParams.set('generation', last.id);
  else if (!entries.length) url.searchParams.delete('generation');
  attempt(() => window.history.replaceState(window.history.state, '', url));
}

function add(entry) {
  // Another tab may have added some since.
  const other = load().filter((each) => each.ticket !== entry.ticket);
  entries = [entry, ...other].slice(0, MOST);
  save();
}

function note({ ticket, id, backend }) {
  entries = load().map((entry) => (entry.ticket === ticket ? { ...entry, id, backend } : entry));
  save();
}

function forget(ticket) {
  entries = load().filter((each) => each.ticket !== ticket);
  known.delete(ticket);
  if (open === ticket) open = entries[0]?.ticket ?? null;
  save();
}

async function look() {
  clearTimeout(timer);
  const asked = entries.map((entry) => entry.ticket).filter((ticket) => !known.get(ticket)?.settled);
  if (!asked.length) return show();
  try {
    take(await post('cards', { tickets: asked }));
    misses = 0;
  } catch {
    misses += 1;
  }
  element.querySelector('.offline').hidden = misses < 2;
  show();
  const pending = entries.some((entry) => !known.get(entry.ticket)?.settled);
  if (pending) timer = setTimeout(look, misses ? Math.min(1000 * 2 ** misses, 10000) : 1000);
}

function take(cards) {
  for (const card of cards) {
    const entry = entries.find((each) => each.ticket === card.ticket);
    if (card.gone) {
      // A cloud generation can still be opened with a key: its id is kept.
      if (!entry?.id || entry.backend !== 'cloud') forget(card.ticket);
      else known.set(card.ticket, { ...card, settled: true });
      continue;
    }
    known.set(card.ticket, card);
    if (entry && card.id && entry.id !== card.id) note(card);
  }
}

function show() {
  const wanted = entries
    .map((entry) => known.get(entry.ticket))
    .filter((card) => card && !card.gone && (card.ticket === open || card.running));
  wanted.sort((one, other) => (other.ticket === open) - (one.ticket === open));
  const cards = wanted.map((card) => drawn(card));
  for (const old of [...stage.children]) if (!cards.includes(old)) old.remove();
  // Only moved where it must be: a video that is moved stops.
  cards.forEach((card, at) => stage.children[at] !== card && stage.insertBefore(card, stage.children[at] || null));
  element.querySelector('.idle-card').hidden = cards.length > 0;
  groups();
  rows();
}

function drawn(card) {
  let node = stage.querySelector(`[data-ticket="${card.ticket}"]`);
  if (!node) {
    node = element.querySelector('template').content.firstElementChild.cloneNode(true);
    node.dataset.ticket = card.ticket;
    stage.append(node);
  }
  const live = node.querySelector('.live');
  if (live.textContent !== card.live) live.textContent = card.live;
  for (const [name, html] of Object.entries(card.parts)) put(node.querySelector(`[data-part=${name}]`), html);
  node.classList.toggle('open', card.ticket === open);
  for (const part of node.querySelectorAll('[data-id]')) {
    if (card.ticket === open) part.id = part.dataset.id;
    else part.removeAttribute('id');
  }
  return node;
}

function rows() {
  const list = history();
  if (!list) return;
  const shown = entries.filter((entry) => known.has(entry.ticket));
  for (const old of [...list.children]) {
    if (!shown.some((entry) => entry.ticket === old.dataset.ticket)) old.remove();
  }
  shown.forEach((entry, at) => {
    let row = list.querySelector(`[data-ticket="${entry.ticket}"]`);
    if (!row) {
      row = document.createElement('li');
      row.dataset.ticket = entry.ticket;
    }
    if (list.children[at] !== row) list.insertBefore(row, list.children[at] || null);
    put(row, known.get(entry.ticket).row || lost(entry));
    row.classList.toggle('open', entry.ticket === open);
  });
  const summary = document.querySelector('#history .count');
  if (summary) summary.textContent = shown.length ? `(${shown.length})` : '';
  document.querySelector('#history .none').hidden = shown.length > 0;
}

function lost(entry) {
  const code = document.createElement('code');
  code.textContent = entry.id;
  return `<span class="blank" aria-hidden="true"></span><div class="what">${code.outerHTML}</div>`
    + `<div class="buttons"><button type="button" class="button" data-do="reopen">${texts.open}</button>`
    + `<button type="button" class="button" data-do="drop">${texts.delete}</button></div>`;
}

const actions = {
  async cancel(ticket) {
    if (await ask(texts.askCancel, texts.stop)) take([await post(`cards/${ticket}/cancel`)]);
  },
  async delete(ticket) {
    if (!(await ask(texts.askDelete, texts.delete))) return;
    await post(`cards/${ticket}/delete`);
    forget(ticket);
  },
  drop: forget,
  open(ticket) {
    open = ticket;
    show();
    stage.scrollIntoView({ block: 'nearest' });
  },
  async link(ticket, button) {
    const url = new URL(document.querySelector('link[rel=canonical]')?.href ?? location.href);
    url.search = new URLSearchParams({ generation: known.get(ticket).id });
    try {
      await navigator.clipboard.writeText(url.href);
      button.textContent = texts.copied;
    } catch {
      prompt(texts.linkIs, url.href);
    }
  },
  again: (ticket) => trigger('again', { ticket }),
  follow: (ticket) => trigger('follow', { ticket }),
  reopen: (ticket) => trigger('follow', { id: entries.find((entry) => entry.ticket === ticket).id }),
};

async function act(event) {
  const button = event.target.closest('[data-do]');
  const ticket = button?.closest('[data-ticket]')?.dataset.ticket;
  if (!ticket) return;
  button.disabled = true;
  try {
    await actions[button.dataset.do](ticket, button);
  } catch {
    misses = 2;
  }
  button.disabled = false;
  look();
}
element.addEventListener('click', act);
document.addEventListener('click', (event) => {
  if (event.target.closest('#history')) act(event);
});

// The plot follows the video, and the video the plot.
element.addEventListener('timeupdate', (event) => {
  const plot = event.target.closest('.run')?.querySelector('.plot svg');
  if (!plot) return;
  const at = (event.target.currentTime / plot.dataset.seconds) * plot.viewBox.baseVal.width;
  const now = plot.querySelector('.now');
  now.setAttribute('x1', at);
  now.setAttribute('x2', at);
}, true);
element.addEventListener('click', (event) => {
  const plot = event.target.closest('.plot svg');
  if (!plot) return;
  const box = plot.getBoundingClientRect();
  const part = (event.clientX - box.left) / box.width;
  plot.closest('.run').querySelector('video').currentTime = part * plot.dataset.seconds;
});

// What Python tells: a generation that was started or opened, or why it could not be.
watch('told', () => {
  const told = props.told || {};
  const problem = element.querySelector('.problem');
  put(problem, told.problem || '');
  for (const ticket of told.tickets || []) {
    add({ ticket, id: null, backend: told.backend });
    known.delete(ticket);
    open = ticket;
  }
  if (told.problem) problem.scrollIntoView({ block: 'nearest' });
  look();
});

// A phone that wakes, and another tab that started something.
document.addEventListener('visibilitychange', () => document.hidden || look());
addEventListener('online', look);
addEventListener('storage', (event) => {
  if (event.key !== STORE) return;
  entries = load();
  look();
});

const linked = new URLSearchParams(location.search).get('generation');
const held = linked && entries.find((entry) => entry.id === linked);
open = held?.ticket ?? entries[0]?.ticket ?? null;
if (linked && !held) trigger('follow', { id: linked });
look();
