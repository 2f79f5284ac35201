// What this browser remembers: tickets, ids and a consent, never a key. Runs before the scripts that use
// it, in their scope. Where the browser refuses to keep anything for good, as in some privacy modes and
// in a frame of another site, it is kept for as long as the tab is open.
const MEMORIES = [() => sessionStorage, () => localStorage]; // asked as functions: looking may throw

function recalled(name) {
  for (const memory of MEMORIES) {
    try {
      const found = JSON.parse(memory().getItem(name));
      if (found !== null) return found;
    } catch { /* the next one, then */ }
  }
  return null;
}

// Whether it was kept. The tab's memory goes first when it is recalled, so it holds nothing that is
// older than what is kept for good.
function remembered(name, value) {
  const [tab, good] = MEMORIES;
  try {
    good().setItem(name, JSON.stringify(value));
    try { tab().removeItem(name); } catch { /* then it holds nothing */ }
    return true;
  } catch { /* refused, or full */ }
  try {
    tab().setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
