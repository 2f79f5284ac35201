// What Gradio's own components lack. It runs once, when the page is there.
() => {
  // A clip's player has no name for whoever does not see it: its file's, in any language.
  document.addEventListener('loadedmetadata', ({ target }) => {
    const result = target.closest('#result');
    if (!result && !target.matches('video:not([aria-label])')) return;
    const title = result?.querySelector('[data-testid=block-label]')?.textContent.trim();
    const file = target.currentSrc.startsWith('http') ? target.currentSrc.split('/').pop() : '';
    target.setAttribute('aria-label', title || decodeURIComponent(file) || document.title);
  }, true);

  // Gradio takes files for its own fields by the type that the browser guesses from their names, and
  // browsers know few. What a file is, the server tells from its bytes.
  const TYPES = { '#audio': 'audio/mpeg', '#source-image': 'image/png', '#source-video': 'video/mp4' };
  const ACCEPT = {
    '#audio': 'audio/*,video/*,.3gp,.3g2,.aac,.ac3,.aif,.aifc,.aiff,.amr,.ape,.au,.caf,.dts,.eac3,'
      + '.flac,.flv,.gsm,.m4a,.m4b,.mka,.mkv,.mpc,.oga,.ogg,.opus,.snd,.spx,.ts,.tta,.voc,.w64,'
      + '.weba,.wma,.wv',
    '#source-image': 'image/*,.heic,.heif,.hif,.avif,.tif,.tiff',
    '#source-video': 'video/*,.3gp,.3g2,.asf,.avi,.flv,.m2ts,.mkv,.mts,.ts,.vob,.wmv',
  };
  const taking = (target) => Object.keys(TYPES).find((field) => target.closest?.(field));
  const typed = (files, type) => {
    const carried = new DataTransfer();
    for (const file of files) carried.items.add(new File([file], file.name, { type }));
    return carried;
  };
  document.addEventListener('change', ({ target }) => {
    const field = taking(target);
    if (field && target.type === 'file') target.files = typed(target.files, TYPES[field]).files;
  }, true);
  document.addEventListener('drop', (event) => {
    const field = taking(event.target);
    if (!event.isTrusted || !field || !event.dataTransfer?.files.length) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const dataTransfer = typed(event.dataTransfer.files, TYPES[field]);
    event.target.dispatchEvent(
      new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer }),
    );
  }, true);
  document.addEventListener('click', ({ target }) => {
    const field = taking(target);
    const input = field && document.querySelector(`${field} input[type=file]`);
    if (input) input.accept = ACCEPT[field];
  }, true);

  // Browsers decode few kinds of pictures. The server's preview below the thumbnail shows all.
  for (const event of ['error', 'load']) {
    document.addEventListener(event, ({ target }) => {
      if (target.matches?.('#source-image .image-frame img')) target.hidden = event === 'error';
    }, true);
  }

  // On a phone, and below the history, the result is elsewhere than the button that starts it.
  window.kolboShowResult = () => {
    const outputs = document.querySelector('#outputs');
    const { top } = outputs.getBoundingClientRect();
    if (top < 0 || top > innerHeight / 2) outputs.scrollIntoView();
  };

  // Pages of one browser share the list of generations. Where nothing can be stored, the address
  // names the last one, so that a reload finds it.
  const channel = window.BroadcastChannel && new BroadcastChannel('kolbo-history');
  let known = '[]';
  window.kolboList = {
    received: () => JSON.parse(known),
    changed(list) {
      const text = JSON.stringify(list);
      if (text === known) return;
      known = text;
      channel?.postMessage(list);
      if (!window.kolboForgets) return;
      const url = new URL(location.href);
      const last = list.find((entry) => entry.id);
      if (last) url.searchParams.set('generation', last.id);
      else url.searchParams.delete('generation');
      history.replaceState(history.state, '', url);
    },
  };
  channel?.addEventListener('message', ({ data }) => {
    known = JSON.stringify(data);
    document.querySelector('#list-received').click();
  });

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
