// Says which line is chosen, and what can be done with it: its text, its link, back to what the search found.
import { Button, CopyButton, IconButton } from "../ui/controls";
import { CloseIcon } from "../ui/icons";
import { formatCount } from "../charts/format";
import type { LinePlace } from "./address";

interface LineStripProps {
  readonly place: LinePlace;
  readonly label: string | null;
  readonly isFound: boolean;
  /** How many lines are chosen. */
  readonly count: number;
  readonly hasResults: boolean;
  readonly isLinkCopied: boolean;
  readonly textOf: () => string;
  readonly onResults: () => void;
  readonly onClose: () => void;
}

export function LineStrip({ place, label, isFound, count, hasResults, isLinkCopied, textOf, onResults, onClose }: LineStripProps) {
  const name = `Line ${formatCount(place.line)}${label === null ? "" : ` of ${label}`}`;
  return (
    <div className="log-chosen" role="status">
      {hasResults ? (
        <Button className="small" onClick={onResults}>
          ← Back to the results
        </Button>
      ) : null}
      <span>
        {!isFound ? `${name} is not among these lines: it was not kept, or the filter leaves it out.` : count > 1 ? `${formatCount(count)} lines` : name}
        {isFound && isLinkCopied ? " · link copied" : ""}
        {isFound && count === 1 && !hasResults ? <span className="muted"> · Shift+click a time to choose up to there</span> : null}
      </span>
      {isFound && count > 0 ? <CopyButton text={textOf()} label={count > 1 ? `Copy ${formatCount(count)} lines` : "Copy the line"} /> : null}
      <IconButton label="Choose no line" onClick={onClose}>
        <CloseIcon size={12} />
      </IconButton>
    </div>
  );
}
