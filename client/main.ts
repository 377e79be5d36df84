import { mount } from 'svelte';
import App from './App.svelte';
import { address } from './lib/address.svelte.js';
import { neurons } from './lib/neurons.svelte.js';
import './theme.css';

/** How long the first frame waits for the unit that it shows, in milliseconds: a frame without it costs as much. */
const patience = 150;

const { unit } = address.place;
// The server sends it ahead (Link in server/http/app.ts), so that it is usually there by now. What goes wrong is told by the page.
if (unit && unit.channel !== null) {
  const ahead = neurons.unit(unit.model, unit.layer, unit.channel).catch(() => undefined);
  await Promise.race([ahead, new Promise((resolve) => setTimeout(resolve, patience))]);
}
mount(App, { target: document.body });
