// What Gradio's own components lack. It runs once, when the page is there.
() => {
  // A clip's player has no name for whoever does not see it: its file's, in any language.
  document.addEventListener('loadedmetadata', ({ target }) => {
    if (!target.matches('video:not([aria-label])')) return;
    const file = target.currentSrc.startsWith('http') ? target.currentSrc.split('/').pop() : '';
    target.setAttribute('aria-label', decodeURIComponent(file) || document.title);
  }, true);

  // A file still on its way, as a recording is that was only just stopped, does not count as given
  // yet: who presses a button that uses it has the button pressed once it is there.
  const USE_FILES = '#generate, #versus-generate, #batch-check';
  const SETTLED_MS = 100;  // from a file's arrival until its component has it
  const ask = window.fetch;
  let coming = 0;
  let putOff = null;
  const arrived = () => {
    if (coming || !putOff) return;
    const pressed = putOff;
    putOff = null;
    pressed.removeAttribute('aria-busy');
    pressed.click();
  };
  window.fetch = async (...what) => {
    const [where, how] = what;
    const uploads = how?.method === 'POST' && /\/upload(\?|$)/.test(where?.url ?? where);
    if (!uploads) return ask(...what);
    coming += 1;
    try {
      const reply = await ask(...what);
      await reply.clone().blob();
      return reply;
    } finally {
      setTimeout(() => { coming -= 1; arrived(); }, SETTLED_MS);
    }
  };
  document.addEventListener('click', (event) => {
    const pressed = event.target.closest(USE_FILES);
    if (!pressed || !coming) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    putOff?.removeAttribute('aria-busy');
    putOff = pressed;
    pressed.setAttribute('aria-busy', 'true');
  }, true);
};
