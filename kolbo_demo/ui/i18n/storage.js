// Some browsers refuse to store anything, as in private windows and in frames of other sites. Then
// the tab stores it until it is closed, else this page until it is reloaded.
(() => {
  const usable = (name) => {
    try {
      window[name].setItem('kolbo-test', '');
      window[name].removeItem('kolbo-test');
      return window[name];
    } catch {
      return null;
    }
  };
  if (usable('localStorage')) return;
  const values = new Map();
  const memory = {
    getItem: (key) => values.get(key) ?? null,
    setItem: (key, value) => values.set(key, String(value)),
    removeItem: (key) => values.delete(key),
  };
  const tab = usable('sessionStorage');
  window.kolboForgets = !tab;
  Object.defineProperty(window, 'localStorage', { value: tab ?? memory, configurable: true });
})();
