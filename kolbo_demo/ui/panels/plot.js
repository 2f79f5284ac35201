// The plot's cursor follows the result, and a click on the plot seeks in it.
const video = () => document.querySelector('#result video');
document.addEventListener('timeupdate', ({ target }) => {
  const plot = element.querySelector('.plot svg');
  if (!plot || target !== video()) return;
  const at = (target.currentTime / plot.dataset.seconds) * plot.viewBox.baseVal.width;
  const now = plot.querySelector('.now');
  now.setAttribute('x1', at);
  now.setAttribute('x2', at);
}, true);
element.addEventListener('click', ({ target, clientX }) => {
  const plot = target.closest('.plot svg');
  if (!plot || !video()) return;
  const box = plot.getBoundingClientRect();
  video().currentTime = ((clientX - box.left) / box.width) * plot.dataset.seconds;
});
