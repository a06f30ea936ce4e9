// The way from the run's files to a folder or file, each step of which can be gone back to.
import { stepsTo } from "./tree";

export function Steps({ path, goTo, isFile = false }: { path: string; goTo: (folder: string) => void; isFile?: boolean }) {
  const steps = [{ label: "Files", path: "" }, ...stepsTo(path)];
  if (steps.length === 1) return null;
  return (
    <nav className="file-steps" aria-label="Folder">
      {steps.map(({ label, path: target }, index) => (
        <span key={target} className="file-step">
          {index === 0 ? null : <span className="muted">/</span>}
          {index === steps.length - 1 ? (
            <span className={isFile ? "file-step-here cut" : "cut"} aria-current="page">
              {label}
            </span>
          ) : (
            <button
              type="button"
              className="link cut"
              onClick={() => {
                goTo(target);
              }}
            >
              {label}
            </button>
          )}
        </span>
      ))}
    </nav>
  );
}
