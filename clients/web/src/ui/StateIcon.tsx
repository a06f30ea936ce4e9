// A run's state by colour and shape: told apart without colours too.
import type { ReactNode } from "react";

const SHAPES: Record<string, ReactNode> = {
  pending: <circle cx="7" cy="7" r="4.5" fill="none" strokeDasharray="2.4 2.3" />,
  running: (
    <>
      <circle className="pulse" cx="7" cy="7" r="3.5" stroke="none" fill="currentColor" />
      <circle cx="7" cy="7" r="3.5" stroke="none" fill="currentColor" />
    </>
  ),
  finished: <path d="m2.8 7.5 2.9 2.9 5.5-6.3" fill="none" />,
  failed: <path d="m3.5 3.5 7 7m0-7-7 7" fill="none" />,
  crashed: <path d="M.5 8.5h3l2-5 .9 2.6M8.3 7.6l1 3.4 1.6-4.5h2.6" fill="none" />,
  killed: <rect x="3.2" y="3.2" width="7.6" height="7.6" rx="1" fill="currentColor" stroke="none" />,
  preempted: <path d="M4.8 3.500v7M9.2 3.500v7" fill="none" strokeWidth="2" />,
  stopping: <path d="M4 2.500h6M4 11.500h6M4.5 2.500c0 3 2.5 3 2.5 4.500s-2.5 1.5-2.5 4.500M9.5 2.500c0 3-2.5 3-2.5 4.500s2.5 1.5 2.5 4.5" fill="none" strokeWidth="1.3" />,
};

export function StateIcon({ state, label }: { state: string; label?: string }) {
  return (
    <svg
      className="state-icon"
      width="14"
      height="14"
      viewBox="0 0 14 14"
      style={{ color: `var(--state-${state})` }}
      stroke="currentColor"
      strokeWidth="1.7"
      strokeLinecap="round"
      strokeLinejoin="round"
      role="img"
      aria-label={label ?? state}
    >
      <title>{label ?? state}</title>
      {SHAPES[state] ?? SHAPES["pending"]}
    </svg>
  );
}

/** Icon and word. */
export function StateBadge({ state }: { state: string }) {
  return (
    <span className="state-badge" style={{ color: `var(--state-${state})` }}>
      <StateIcon state={state} />
      {state}
    </span>
  );
}
