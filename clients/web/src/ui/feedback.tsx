// What a page shows instead of its content: what is loading, missing, empty, or broken.
import type { ReactNode } from "react";
import { Button, CopyButton } from "./controls";

/** A grey bar in the place of a text. */
export function Skeleton({ width, height = 12 }: { width: number | string; height?: number }) {
  return <span className="skeleton" style={{ width, height }} aria-hidden="true" />;
}

/** Grey bars in the place of rows. */
export function SkeletonRows({ count, height = 28 }: { count: number; height?: number }) {
  return (
    <div role="status" aria-label="Loading">
      {Array.from({ length: count }, (_, i) => (
        <div key={i} className="skeleton-row" style={{ height }}>
          <Skeleton width={`${18 + ((i * 37) % 22)}%`} />
          <Skeleton width={`${10 + ((i * 23) % 14)}%`} />
        </div>
      ))}
    </div>
  );
}

interface ErrorBoxProps {
  readonly title: string;
  readonly detail: string;
  readonly reason?: string;
  readonly onRetry?: () => void;
}

/** Names the cause and offers a way on. */
export function ErrorBox({ title, detail, reason = "", onRetry }: ErrorBoxProps) {
  return (
    <div className="error-box" role="alert">
      <div>
        <strong>{title}</strong>
        <p>{detail}</p>
        {reason === "" ? null : <code>{reason}</code>}
      </div>
      {onRetry === undefined ? null : <Button onClick={onRetry}>Try again</Button>}
    </div>
  );
}

/** What stands where nothing is: why, and the next step. isPage: nothing else is on the page. */
export function Empty({ title, children, isPage = false }: { title: string; children?: ReactNode; isPage?: boolean }) {
  return (
    <div className="empty">
      {isPage ? <h1>{title}</h1> : <h2>{title}</h2>}
      {children}
    </div>
  );
}

/** Code that can be copied whole. */
export function Snippet({ code, label }: { code: string; label: string }) {
  return (
    <figure className="snippet">
      <figcaption>
        {label}
        <CopyButton text={code} />
      </figcaption>
      <pre>{code}</pre>
    </figure>
  );
}
