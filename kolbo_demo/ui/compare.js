// Videos in step, with one control: the source and a result, or the results of several models.
// Runs after cards.js, in its scope.
const panes = (box) => [...box.querySelectorAll('.panes video')];
const leading = (box) => box.querySelector('.lead video'); // the others follow, and are silent

function choices(box, card) {
  const select = box.querySelector('select');
  const others = entries.map((entry) => known.get(entry.ticket))
    .filter((other) => other?.result && other.ticket !== card.ticket);
  const options = card.before ? [['', box.dataset.source]] : [];
  for (const other of others) options.push([other.ticket, `${other.title} (${other.id ?? ''})`]);
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

function shownIn(pane, kind, url, label, muted) {
  const node = document.createElement(kind === 'image' ? 'img' : 'video');
  if (kind === 'image') node.alt = label;
  else Object.assign(node, { muted, playsInline: true, preload: 'auto', ariaLabel: label });
  node.src = url;
  pane.replaceChildren(node);
}

function fill(box) {
  const card = known.get(box.closest('.run').dataset.ticket);
  const select = box.querySelector('select');
  const other = select.value ? known.get(select.value) : null;
  const left = other ? { kind: 'video', url: other.result } : card.before;
  const [beside, lead] = box.querySelectorAll('.panes > *');
  beside.replaceChildren();
  if (left) shownIn(beside, left.kind, left.url, select.selectedOptions[0].text, true);
  shownIn(lead, 'video', card.result, card.title, false);
  inStep(box);
}

function inStep(box) {
  const lead = leading(box);
  const slider = box.querySelector('[type=range]');
  lead.addEventListener('timeupdate', () => {
    slider.value = (1000 * lead.currentTime) / (lead.duration || 1);
    // What has drifted by more than two frames is put back.
    for (const video of panes(box)) {
      if (video !== lead && Math.abs(video.currentTime - lead.currentTime) > 0.08) follow(video, lead.currentTime);
    }
  });
  for (const event of ['play', 'pause', 'ended']) lead.addEventListener(event, () => pressed(box, !lead.paused));
}

function follow(video, at) {
  video.currentTime = Math.min(at, video.duration || at);
}

function pressed(box, on) {
  box.querySelector('[data-do=play]').setAttribute('aria-pressed', on);
  for (const video of panes(box)) {
    if (!on) video.pause();
    else if (video.currentTime < (video.duration || Infinity)) video.play().catch(() => {});
  }
}

element.addEventListener('toggle', (event) => {
  const box = event.target;
  if (!box.classList.contains('compare')) return;
  if (!box.open) return pressed(box, false);
  choices(box, known.get(box.closest('.run').dataset.ticket));
  fill(box);
}, true);
element.addEventListener('change', (event) => {
  const box = event.target.closest('.compare');
  if (box && event.target.matches('select')) fill(box);
});
element.addEventListener('input', (event) => {
  const box = event.target.closest('.compare');
  if (!box || !event.target.matches('[type=range]')) return;
  const lead = leading(box);
  const at = (event.target.value / 1000) * (lead.duration || 0);
  lead.currentTime = at;
  for (const video of panes(box)) if (video !== lead) follow(video, at);
});

actions.play = (ticket, button) => {
  const box = button.closest('.compare');
  const lead = leading(box);
  if (lead.ended) for (const video of panes(box)) video.currentTime = 0;
  return lead.paused ? lead.play() : lead.pause();
};
actions.beside = async (ticket, button) => {
  const box = button.closest('.compare');
  const told = box.querySelector('.told');
  told.textContent = '…';
  const made = await post(`cards/${ticket}/beside`, { ticket: box.querySelector('select').value || null });
  told.textContent = made.problem || '';
  if (!made.url) return;
  const link = document.createElement('a');
  link.href = made.url;
  link.download = '';
  link.click();
};

// One card for each group of models that were started to be compared: a table, and their videos.
function groups() {
  const found = new Map();
  for (const entry of entries) {
    const card = known.get(entry.ticket);
    if (card?.group) found.set(card.group, [card, ...(found.get(card.group) || [])]);
  }
  const wanted = [...found].filter(([, cards]) =>
    cards.length > 1 && cards.some((card) => card.ticket === open || card.running));
  const place = element.querySelector('.groups');
  for (const old of [...place.children]) if (!wanted.some(([group]) => group === old.dataset.ticket)) old.remove();
  for (const [group, cards] of wanted) {
    let box = [...place.children].find((each) => each.dataset.ticket === group);
    if (!box) {
      box = element.querySelector('template.of-group').content.firstElementChild.cloneNode(true);
      box.dataset.ticket = group;
      place.append(box);
    }
    box.querySelector('.what').textContent = cards[0].title;
    const body = box.querySelector('tbody');
    cards.forEach((card, at) => {
      const row = body.children[at] || body.appendChild(document.createElement('tr'));
      row.dataset.ticket = card.ticket;
      put(row, card.versus);
      row.classList.toggle('open', card.ticket === open);
    });
    while (body.children.length > cards.length) body.lastChild.remove();
    const tickets = new URLSearchParams(cards.map((card) => ['ticket', card.ticket]));
    for (const link of box.querySelectorAll('[data-table]')) link.href = `cards/table.${link.dataset.table}?${tickets}`;
    side(box, cards.filter((card) => card.result));
  }
}

function side(box, cards) {
  const shown = cards.map((card) => card.ticket).join();
  if (box.shown === shown) return;
  box.shown = shown;
  const panes = cards.map((card, at) => {
    const figure = document.createElement('figure');
    const pane = figure.appendChild(document.createElement('div'));
    figure.className = at ? '' : 'lead';
    shownIn(pane, 'video', card.result, card.model, at > 0);
    figure.appendChild(document.createElement('figcaption')).textContent = card.model;
    return figure;
  });
  box.querySelector('.panes').replaceChildren(...panes);
  box.querySelector('.control').hidden = !panes.length;
  if (panes.length) inStep(box);
}
