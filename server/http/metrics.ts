import type { Scheduler } from '../jobs/scheduler.js';
import { jobStatuses } from '../jobs/job.js';
import { countJobsByStatus } from '../store/jobs.js';
import type { Store } from '../store/store.js';

/** Answered requests by route (its pattern, not its path: ids must not become labels) and status. */
export interface RequestCounts {
  count(method: string, route: string, status: number): void;
  entries(): [labels: string, requests: number][];
}

export function countRequests(): RequestCounts {
  const requests = new Map<string, number>();
  return {
    count(method, route, status) {
      const labels = `method="${method}",route="${route}",status="${status}"`;
      requests.set(labels, (requests.get(labels) ?? 0) + 1);
    },
    entries: () => [...requests],
  };
}

/** In Prometheus' text format 0.0.4. */
export function metricsText(store: Store, scheduler: Scheduler, requests: RequestCounts): string {
  const byStatus = countJobsByStatus(store);
  const { steps, computeCrashes } = scheduler.counts();
  const families = [
    {
      name: 'reverie_jobs',
      type: 'gauge',
      help: 'Jobs in the store by status.',
      samples: jobStatuses.map((status) => [`status="${status}"`, byStatus[status] ?? 0] as const),
    },
    { name: 'reverie_queue_length', type: 'gauge', help: 'Jobs that wait.', samples: [['', byStatus.queued ?? 0] as const] },
    { name: 'reverie_steps_total', type: 'counter', help: 'Gradient steps since the start.', samples: [['', steps] as const] },
    {
      name: 'reverie_compute_restarts_total',
      type: 'counter',
      help: 'Times the compute process ended under a job since the start.',
      samples: [['', computeCrashes] as const],
    },
    {
      name: 'reverie_http_requests_total',
      type: 'counter',
      help: 'Answered HTTP requests since the start.',
      samples: requests.entries(),
    },
  ];
  return families
    .flatMap(({ name, type, help, samples }) => [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} ${type}`,
      ...samples.map(([labels, value]) => `${name}${labels && `{${labels}}`} ${value}`),
    ])
    .join('\n')
    .concat('\n');
}
