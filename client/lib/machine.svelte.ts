import type { ModelView } from '../../server/compute/protocol.js';
import type { DeviceState } from '../../server/live/events.js';
import { api } from './api.js';
import { sentenceOf } from './failure.js';

/** The machine behind the page: which networks are loaded and what they run on. */
class Machine {
  models: ModelView[] = $state.raw([]);
  device: DeviceState | null = $state.raw(null);
  error: string | null = $state(null);

  /** The VQGANs that can draw. */
  generators: string[] = $derived(this.models.filter(({ kind, ready }) => kind === 'generator' && ready).map(({ name }) => name));
  /** Known to have none; before the models are known, nothing is. */
  lacksGenerator: boolean = $derived(this.models.length > 0 && this.generators.length === 0);

  async load(): Promise<void> {
    this.error = null;
    try {
      ({ models: this.models, device: this.device } = await api.models());
    } catch (error) {
      this.error = sentenceOf(error);
    }
  }
}

export const machine = new Machine();
