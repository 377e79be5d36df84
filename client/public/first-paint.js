// Before anything is painted: the remembered theme, so that a page on rice paper does not flash black. Everything else waits for main.ts.
try {
  if (localStorage.getItem('reverie.theme') === '"light"') document.documentElement.dataset.theme = 'light';
} catch {
  // storage is closed to us: the default theme stands
}
