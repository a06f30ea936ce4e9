// Pages that are no feature: an unknown address, a failed call, a crash of the page itself.
import { Link } from "react-router";
import { describeError } from "../api/errors";
import { Button } from "../ui/controls";
import { Empty, ErrorBox } from "../ui/feedback";

export function NotFoundPage() {
  return (
    <Empty isPage title="There is no page at this address">
      <p>
        Projects are at <code>/entity/project</code>, runs at <code>/entity/project/runs/id</code>.
      </p>
      <Link to="/" className="link">
        All projects
      </Link>
    </Empty>
  );
}

/** A call that failed: its cause, and another try. */
export function CallError({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  const { title, detail, reason, isMissing } = describeError(error);
  return <ErrorBox title={title} detail={detail} reason={reason} {...(isMissing ? {} : { onRetry })} />;
}

/** Shown when the page's own code failed. */
export function CrashPage({ error }: { error: unknown }) {
  return (
    <Empty isPage title="This page failed">
      <p>It is a bug of the web application; your runs are not touched by it.</p>
      <pre className="card crash">{error instanceof Error ? (error.stack ?? error.message) : String(error)}</pre>
      <Button
        onClick={() => {
          window.location.reload();
        }}
      >
        Reload
      </Button>
    </Empty>
  );
}
