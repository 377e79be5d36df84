import type { ModelView } from '../../server/compute/protocol.js';
import type { DeviceState } from '../../server/live/events.js';
import { api } from './api.js';
import { sentenceOf } from './failure.js';

/** The machine behind the page: which networks are loaded and what they run on. */
class Machine {
  models: ModelView[] = $state.raw([]);
  device: DeviceState | null = $state.raw(null);
  error: string | null = $state(null);

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
