// Where a run came from: the facts of its host, typed and put into groups; what is not known is not there.
import { ExactNumber, type ExtendedObject, type ExtendedValue, isObject, parseExtendedObject, valueText } from "../api/extendedJson";
import type { Host } from "../api/types";
import { formatBytes, formatCount } from "../charts/format";

export interface OriginFact {
  readonly name: string;
  readonly text: string;
  /** Shown as code, with a button to copy it. */
  readonly isCode?: boolean;
  /** A page elsewhere. */
  readonly url?: string;
  /** A file of the run. */
  readonly file?: string;
  /** What goes with it, less loud. */
  readonly aside?: string;
  /** Lines that are shown when asked for. */
  readonly lines?: readonly string[];
  /** Says why something is not known. */
  readonly isProblem?: boolean;
}

export interface OriginGroup {
  readonly title: string;
  readonly facts: readonly OriginFact[];
}

const COMMIT_LENGTH = 10;

/** The groups that have facts, in the order in which a reader asks for them. */
export function originGroups(host: Host | undefined): OriginGroup[] {
  if (host === undefined) return [];
  const extra = readExtra(host.extraJson);
  const groups: OriginGroup[] = [
    { title: "Program", facts: programFacts(host, extra) },
    { title: "Git", facts: gitFacts(objectOf(extra.git)) },
    { title: "Python", facts: pythonFacts(host, extra) },
    { title: "Machine", facts: machineFacts(host, extra) },
    { title: "Environment", facts: environmentFacts(extra) },
  ];
  return groups
    .map(({ title, facts }) => ({ title, facts: facts.filter(({ text }) => text !== "") }))
    .filter(({ facts }) => facts.length > 0);
}

/** The page of a commit at GitHub, GitLab and what is built like them; "" for other remotes. */
export function commitUrl(remote: string, commit: string): string {
  const found = /^(?:https?:\/\/|ssh:\/\/|git@)([\w.-]+)(?::\d+)?[:/](.+?)(?:\.git)?\/?$/.exec(remote);
  const [, host, path] = found ?? [];
  if (host === undefined || path === undefined || commit === "") return "";
  if (!/(^|\.)(github|gitlab|gitea|codeberg|bitbucket)\./.test(host)) return "";
  const page = host.includes("gitlab.") ? "-/commit" : host.includes("bitbucket.") ? "commits" : "commit";
  return `https://${host}/${path}/${page}/${commit}`;
}

function programFacts(host: Host, extra: ExtendedObject): OriginFact[] {
  const program = textOf(extra.program);
  const words = listOf(extra.arguments);
  const source = objectOf(extra.source);
  return [
    { name: "Program", text: program, isCode: true },
    { name: "Arguments", text: words.map(quoted).join(" "), isCode: true },
    { name: "Command", text: host.command, isCode: true },
    { name: "Folder", text: host.workingDirectory, isCode: true },
    fileFact("Source", source, textOf(source.file)),
  ];
}

function gitFacts(git: ExtendedObject): OriginFact[] {
  const commit = textOf(git.commit);
  const remote = textOf(git.remote);
  const diff = objectOf(git.diff);
  const count = Number(textOf(git.changed_count));
  const untracked = listOf(git.untracked);
  const untrackedCount = Number(textOf(git.untracked_count));
  const submodules = (Array.isArray(git.submodules) ? git.submodules : []).map(objectOf);
  const isDirty = git.is_dirty === true;
  const changed = `${formatCount(count)} ${count === 1 ? "file differs" : "files differ"} from the commit`;
  return [
    { name: "Commit", text: commit.slice(0, COMMIT_LENGTH), url: commitUrl(remote, commit), aside: textOf(git.branch) === "" ? "no branch" : `on ${textOf(git.branch)}` },
    ...(commit === "" ? [{ name: "Branch", text: textOf(git.branch) }] : []),
    { name: "Repository", text: remote, isCode: true },
    { name: "Changes", text: isDirty ? changed : git.is_dirty === false ? "none: as committed" : "" },
    fileFact("Diff", diff, textOf(diff.file)),
    { name: "Untracked", text: untrackedCount > 0 ? `${formatCount(untrackedCount)} not in git` : "", lines: untracked },
    {
      name: "Submodules",
      text: submodules.length > 0 ? formatCount(submodules.length) : "",
      lines: submodules.map((one) => `${textOf(one.path)}  ${textOf(one.commit).slice(0, COMMIT_LENGTH)}  ${textOf(one.state)}`),
    },
    { name: "Not known", text: textOf(git.problem), isProblem: true },
  ];
}

function pythonFacts(host: Host, extra: ExtendedObject): OriginFact[] {
  const requirements = objectOf(extra.requirements);
  const count = textOf(requirements.count);
  return [
    { name: "Python", text: host.pythonVersion, aside: host.pythonExecutable },
    fileFact("Packages", requirements, count === "" ? textOf(requirements.file) : `${formatCount(Number(count))} installed`),
    { name: "Client", text: host.clientVersion },
  ];
}

function machineFacts(host: Host, extra: ExtendedObject): OriginFact[] {
  const machine = objectOf(extra.machine);
  const gpu = objectOf(extra.gpu);
  const total = Number(textOf(machine.cpu_total));
  const cpus = host.cpuCount === 0 ? "" : total > host.cpuCount ? `${host.cpuCount} of ${total}` : String(host.cpuCount);
  const free = textOf(machine.disk_free_bytes);
  return [
    { name: "Host", text: host.hostname, aside: host.username },
    { name: "OS", text: host.os },
    { name: "CPUs", text: cpus, aside: textOf(machine.cpu_model) || textOf(machine.architecture) },
    { name: "Memory", text: bytesOf(machine.memory_bytes) },
    { name: "Disk", text: bytesOf(machine.disk_bytes), ...(free === "" ? {} : { aside: `${formatBytes(Number(free))} free at the start` }) },
    { name: "GPUs", text: gpuText(gpu) },
    { name: "CUDA", text: textOf(gpu.cuda_version), aside: textOf(gpu.driver_version) === "" ? "" : `driver ${textOf(gpu.driver_version)}` },
    { name: "Process", text: host.pid === 0n ? "" : String(host.pid) },
  ];
}

function environmentFacts(extra: ExtendedObject): OriginFact[] {
  const container = objectOf(extra.container);
  const pod = objectOf(extra.kubernetes);
  const slurm = objectOf(extra.slurm);
  const task = textOf(slurm.array_task_id);
  const environment = Object.entries(objectOf(extra.environment)).map(([name, value]) => `${name}=${valueText(value)}`);
  return [
    { name: "Container", text: textOf(container.image) || textOf(container.runtime) || (textOf(container.id) === "" ? "" : "yes"), aside: textOf(container.id).slice(0, 12) },
    { name: "Pod", text: [pod.namespace, pod.pod].map(textOf).filter((part) => part !== "").join("/"), aside: textOf(pod.node) === "" ? "" : `on ${textOf(pod.node)}` },
    { name: "Slurm job", text: textOf(slurm.job_id), aside: [textOf(slurm.job_name), task === "" ? "" : `task ${task}`].filter((part) => part !== "").join(", ") },
    { name: "Partition", text: textOf(slurm.partition) },
    { name: "Nodes", text: textOf(slurm.node_list) || textOf(slurm.node_count) },
    { name: "Variables", text: environment.length > 0 ? formatCount(environment.length) : "", lines: environment },
  ];
}

function fileFact(name: string, facts: ExtendedObject, text: string): OriginFact {
  const file = textOf(facts.file);
  if (file === "") return { name, text: textOf(facts.problem), isProblem: true };
  return { name, text: text === "" ? file : text, file, aside: bytesOf(facts.size_bytes) };
}

function gpuText(gpu: ExtendedObject): string {
  const memory = Array.isArray(gpu.memory_bytes) ? gpu.memory_bytes : [];
  const counts = new Map<string, number>();
  listOf(gpu.names).forEach((name, index) => {
    const size = bytesOf(memory[index]);
    const kind = size === "" ? name : `${name} (${size})`;
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  });
  return [...counts].map(([kind, count]) => `${count} × ${kind}`).join(", ");
}

function readExtra(json: string): ExtendedObject {
  try {
    return parseExtendedObject(json);
  } catch {
    return {};
  }
}

function objectOf(value: ExtendedValue | undefined): ExtendedObject {
  return value !== undefined && isObject(value) ? value : {};
}

function listOf(value: ExtendedValue | undefined): string[] {
  return Array.isArray(value) ? value.map(valueText) : [];
}

function textOf(value: ExtendedValue | undefined): string {
  return typeof value === "string" || value instanceof ExactNumber ? valueText(value) : "";
}

function bytesOf(value: ExtendedValue | undefined): string {
  return value instanceof ExactNumber && value.value > 0 ? formatBytes(value.value) : "";
}

/** As a shell would take it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}
