// Measures clicks on the shown picture in 0-1 and tells the server. `element`, `props` and `trigger`
// are given by Gradio.
const shown = () => element.querySelector('.frame img, .frame video');
let telling = 0;
let asked = 0; // how many places the server was told or will be
let wanted = null; // the last of them, until it is answered: what answers an earlier one takes no step back

function place(x, y, later) {
  const index = [x, y].map((part) => Math.min(Math.max(part, 0), 1));
  [props.x, props.y] = wanted = index;
  const value = ++asked;
  clearTimeout(telling);
  telling = setTimeout(() => trigger('select', { index, value }), later);
}

watch('answered', () => {
  if (props.answered === asked) wanted = null;
  else if (wanted) [props.x, props.y] = wanted;
});
watch('value', () => { // another picture
  clearTimeout(telling);
  wanted = null;
});

element.addEventListener('click', (event) => {
  const picture = shown();
  const face = event.target.closest('.face');
  if (!picture || !(face || picture.contains(event.target))) return;
  const box = picture.getBoundingClientRect();
  if (face && !event.detail) { // pressed by key: there is no place but the box's middle
    const middle = face.getBoundingClientRect();
    place((middle.left + middle.width / 2 - box.left) / box.width,
      (middle.top + middle.height / 2 - box.top) / box.height, 0);
    return;
  }
  place((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, 0);
});

element.addEventListener('keydown', (event) => {
  const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const [dx, dy] = move[event.key] || [0, 0];
  if (!shown() || !(dx || dy)) return;
  event.preventDefault();
  const step = event.shiftKey ? 0.05 : 0.01;
  const [x, y] = wanted || [props.x ?? 0.5, props.y ?? 0.5];
  place(x + dx * step, y + dy * step, 250);
});

// A link that is no picture, or that its host does not let be shown here.
element.addEventListener('error', () => element.classList.add('unseen'), true);
for (const loaded of ['load', 'loadeddata']) {
  element.addEventListener(loaded, () => element.classList.remove('unseen'), true);
}
