// How to make the first run, with this server's own address: to be pasted as it is.
import { Snippet } from "../ui/feedback";

interface FirstRunProps {
  readonly entity?: string;
  readonly project?: string;
}

export function FirstRun({ entity, project = "first-project" }: FirstRunProps) {
  const owner = entity === undefined ? "" : `entity=${JSON.stringify(entity)}, `;
  const code = `import os, random
os.environ["RUNYARD_BASE_URL"] = "${window.location.origin}"

import runyard

run = runyard.init(
    ${owner}project=${JSON.stringify(project)},
    config={"learning_rate": 0.01},
)
for step in range(100):
    loss = 1 / (step + 1) + random.random() / 20
    run.log({"loss": loss, "accuracy": 1 - loss})
run.finish()
`;
  return <Snippet label="Python" code={code} />;
}
