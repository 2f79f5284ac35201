// Plays a result in place of its poster: silent while it is pointed at or has the focus of the
// keyboard, with sound once it is pressed. `element` and `trigger` are given by Gradio.
const still = matchMedia('(prefers-reduced-motion: reduce)');

function stop(button) {
  button.querySelector('video')?.remove();
  button.setAttribute('aria-pressed', false);
}

function play(button, muted) {
  for (const other of element.querySelectorAll('.play:has(video)')) {
    if (!muted || other === button) stop(other);
  }
  const video = document.createElement('video');
  Object.assign(video, { src: button.dataset.video, muted, loop: muted, playsInline: true });
  video.setAttribute('aria-label', '');
  video.addEventListener('ended', () => stop(button));
  button.append(video);
  button.setAttribute('aria-pressed', !muted);
  video.play().catch(() => {}); // no sound before the page was touched, or it was stopped already
}

const start = ({ target, pointerType }) => {
  if (still.matches || !target.matches?.('.play') || target.querySelector('video')) return;
  if (pointerType ? pointerType === 'mouse' : target.matches(':focus-visible')) play(target, true);
};
const leave = ({ target }) => {
  if (target.matches?.('.play') && target.querySelector('video')?.muted) stop(target);
};
element.addEventListener('pointerenter', start, true);
element.addEventListener('pointerleave', leave, true);
element.addEventListener('focusin', start);
element.addEventListener('focusout', leave);
element.addEventListener('toggle', () => element.querySelectorAll('.play').forEach(stop), true);

element.addEventListener('click', ({ target }) => {
  const button = target.closest('button');
  if (button?.matches('.play')) {
    const loud = button.querySelector('video')?.muted === false;
    if (loud) stop(button);
    else play(button, false);
  } else if (button) {
    element.querySelectorAll('.play').forEach(stop);
    kolboShowResult();
    trigger('select', { index: 0, value: button.dataset.item });
  }
});

// Folded once there is a result to look at, open again once there is none.
const outputs = element.closest('#outputs');
let state = null;
new MutationObserver(() => {
  const now = outputs.querySelector('#status .state')?.classList.item(1);
  if (now === state) return;
  state = now;
  if (['done', 'idle'].includes(state)) element.querySelector('details').open = state === 'idle';
}).observe(outputs, { childList: true, subtree: true });
