// What the scripts of cards and of batches share: they run after it, in its scope. `element` is given
// by Gradio.
const dialog = element.querySelector('dialog');

async function post(path, body) {
  const answer = await fetch(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body || {}),
  });
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
}

// What this browser keeps: lists, by name. Where it refuses, as private windows and pages within pages
// may, the tab keeps them until it is closed, and else this script until it is reloaded.
const tab = new Map();

function recall(name) {
  const places = [tab.get(name), attempt(() => sessionStorage), attempt(() => localStorage)];
  for (const place of places) {
    const found = attempt(() => JSON.parse(place.getItem ? place.getItem(name) : place));
    if (Array.isArray(found)) return found;
  }
  return [];
}

// Whether it outlives a reload.
function keep(name, list) {
  const text = JSON.stringify(list);
  const good = attempt(() => (localStorage.setItem(name, text), true));
  // Never an older list there than the one that is kept for good.
  attempt(() => sessionStorage.removeItem(name));
  const kept = good || attempt(() => (sessionStorage.setItem(name, text), true));
  if (kept) tab.delete(name);
  else tab.set(name, text);
  return Boolean(kept);
}

// What it gives, and nothing where the browser refuses.
function attempt(something) {
  try {
    return something();
  } catch {
    return undefined;
  }
}

function put(node, html) {
  if (!node || node.shown === html) return;
  const focused = node.contains(document.activeElement) && document.activeElement.dataset.do;
  node.innerHTML = html;
  node.shown = html;
  node.hidden = !html;
  for (const time of node.querySelectorAll('time[data-at]')) {
    const at = new Date(1000 * time.dataset.at);
    time.dateTime = at.toISOString();
    time.textContent = at.toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
  }
  if (focused) node.querySelector(`[data-do=${focused}]`)?.focus();
}

// One question, asked once: resolves to whether to go on.
function ask(question, yes) {
  dialog.querySelector('p').textContent = question;
  dialog.querySelector('[value=yes]').textContent = yes;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener('close', () => answer(dialog.returnValue === 'yes'), { once: true });
  });
}
