/** What the browser remembers for us, as JSON under one prefix. Storage may be closed or full: then the page forgets, and works. */
export function recall<T>(name: string, isValid: (value: unknown) => value is T, storage: 'local' | 'tab' = 'local'): T | null {
  try {
    const text = shelf(storage).getItem(`reverie.${name}`);
    const value: unknown = text === null ? null : JSON.parse(text);
    return isValid(value) ? value : null;
  } catch {
    return null;
  }
}

export function remember(name: string, value: unknown, storage: 'local' | 'tab' = 'local'): void {
  try {
    shelf(storage).setItem(`reverie.${name}`, JSON.stringify(value));
  } catch {
    // forgetting is allowed
  }
}

function shelf(storage: 'local' | 'tab'): Storage {
  return storage === 'local' ? localStorage : sessionStorage;
}
