// What Gradio's own components lack. It runs once, when the page is there.
() => {
  // A clip's player has no name for whoever does not see it: its file's, in any language.
  document.addEventListener('loadedmetadata', ({ target }) => {
    if (!target.matches('video:not([aria-label])')) return;
    const file = target.currentSrc.startsWith('http') ? target.currentSrc.split('/').pop() : '';
    target.setAttribute('aria-label', decodeURIComponent(file) || document.title);
  }, true);
};
