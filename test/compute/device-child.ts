/** Prints what is chosen for each device named in the arguments, as JSON; and nothing else, whatever drivers say. */
import { chooseDevice } from '../../server/compute/device.js';

async function main() {
  const chosen = [];
  for (const asked of process.argv.slice(2)) chosen.push(await chooseDevice(asked));
  console.log(JSON.stringify(chosen));
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
