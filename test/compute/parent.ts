/** Starts a compute process, gives it a long job, says `working`, and waits to be killed: see process.test.ts. */
import { startCompute } from '../../server/compute/process.js';
import { jobRequest } from '../../server/jobs/job.js';

const job = jobRequest.parse({ text: 'nature', size: 64, views: 1, steps: 2000 });
startCompute({ device: 'cpu' })
  .then((compute) =>
    compute.request('imagine', { jobId: 'endless', job }, (progress) => {
      if (progress.kind === 'step' && progress.step === 0) console.log('working');
    }),
  )
  .catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
