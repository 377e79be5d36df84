import { placeOf, type Place } from './places.js';

/** The address bar. Pages read `address.place`; links are plain `<a href>` and are followed here, without loading the page anew. */
class Address {
  path: string = $state(location.pathname);
  place: Place = $derived(placeOf(this.path));

  /** The page is for a frame on somebody else's page (server/http/guard.ts lets it be framed): it shows one unit and nothing that acts. */
  readonly embed: boolean = new URLSearchParams(location.search).get('embed') === 'true';

  constructor() {
    addEventListener('popstate', () => (this.path = location.pathname));
  }

  /** A new place is seen from its top, as after a load; the browser keeps how far the one that is left was scrolled. */
  go(path: string): void {
    if (path !== this.path) {
      history.pushState(null, '', path);
      scrollTo({ top: 0, behavior: 'instant' });
    }
    this.path = path;
  }

  /** The same place under its better name: back does not return to the old one. */
  rename(path: string): void {
    if (path !== this.path) history.replaceState(null, '', path);
    this.path = path;
  }

  /** Follows a click on a link of ours; everything else (new tabs, downloads, the API) stays the browser's. */
  follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (!link || link.target !== '' || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (link.pathname.startsWith('/api/')) return;
    event.preventDefault();
    this.go(link.pathname);
  }
}

export const address = new Address();
