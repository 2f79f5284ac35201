// Plays the videos in `.panes` in step. The one in `.lead` has the sound, and the others follow it.
const panes = () => [...element.querySelectorAll('.panes video')];
const lead = () => element.querySelector('.lead video');
const FRAMES = 0.08; // seconds: two frames at 25 a second

function follow(seconds, most) {
  for (const video of panes()) {
    if (video === lead() || Math.abs(video.currentTime - seconds) <= most) continue;
    video.currentTime = Math.min(seconds, video.duration || seconds);
  }
}

function play(on) {
  element.querySelector('[data-do=play]').setAttribute('aria-pressed', on);
  for (const video of panes()) {
    if (!on) video.pause();
    else if (video.currentTime < (video.duration || Infinity)) video.play().catch(() => {});
  }
}

element.addEventListener('timeupdate', ({ target }) => {
  if (target !== lead()) return;
  element.querySelector('[type=range]').value = (1000 * target.currentTime) / (target.duration || 1);
  follow(target.currentTime, FRAMES);
}, true);
for (const event of ['play', 'pause', 'ended']) {
  element.addEventListener(event, ({ target }) => target === lead() && play(!target.paused), true);
}
element.addEventListener('click', ({ target }) => {
  if (!target.closest('[data-do=play]')) return;
  if (lead().ended) for (const video of panes()) video.currentTime = 0;
  play(lead().paused);
});
element.addEventListener('input', ({ target }) => {
  lead().currentTime = (target.value / 1000) * (lead().duration || 0);
  follow(lead().currentTime, 0);
});
