// Two videos in step, with one control. Runs after cards.js, in its scope.
const panes = (box) => [...box.querySelectorAll('.pair video')];

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
  box.querySelector('.left').replaceChildren();
  if (left) shownIn(box.querySelector('.left'), left.kind, left.url, select.selectedOptions[0].text, true);
  shownIn(box.querySelector('.right'), 'video', card.result, card.title, false);
  const lead = box.querySelector('.right video');
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
  const lead = box.querySelector('.right video');
  const at = (event.target.value / 1000) * (lead.duration || 0);
  lead.currentTime = at;
  for (const video of panes(box)) if (video !== lead) follow(video, at);
});

actions.play = (ticket, button) => {
  const box = button.closest('.compare');
  const lead = box.querySelector('.right video');
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
