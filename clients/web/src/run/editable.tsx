// Notes and tags: shown, and changed in place.
import { useState } from "react";
import { describeError } from "../api/errors";
import { useUpdateRun } from "../api/queries";
import type { Run } from "../api/types";
import { Button } from "../ui/controls";
import { CloseIcon } from "../ui/icons";

export function EditableNotes({ run }: { run: Run }) {
  const [draft, setDraft] = useState<string | null>(null);
  const update = useUpdateRun(run.path);
  if (draft === null) {
    return (
      <button
        type="button"
        className={`notes ${run.notes === "" ? "muted" : ""}`}
        title="Edit"
        onClick={() => {
          setDraft(run.notes);
        }}
      >
        {update.isPending ? update.variables.notes : run.notes === "" ? "Add notes: what was tried, what came of it" : run.notes}
      </button>
    );
  }
  return (
    <div className="notes-edit">
      <textarea
        aria-label="Notes"
        rows={5}
        value={draft}
        autoFocus
        onChange={(event) => {
          setDraft(event.target.value);
        }}
        onKeyDown={(event) => {
          if (event.key === "Escape") setDraft(null);
        }}
      />
      <div className="edit-actions">
        <Button
          className="small primary"
          onClick={() => {
            update.mutate(
              { notes: draft },
              {
                onSuccess: () => {
                  setDraft(null);
                },
              },
            );
          }}
        >
          Save
        </Button>
        <Button
          className="small"
          onClick={() => {
            setDraft(null);
          }}
        >
          Cancel
        </Button>
      </div>
      <UpdateError error={update.error} />
    </div>
  );
}

export function EditableTags({ run }: { run: Run }) {
  const [draft, setDraft] = useState("");
  const update = useUpdateRun(run.path);
  const tags = update.isPending ? (update.variables.tags ?? run.tags) : run.tags;
  return (
    <div className="tags">
      {tags.map((tag) => (
        <span key={tag} className="tag">
          <span className="cut">{tag}</span>
          <button
            type="button"
            aria-label={`Remove the tag ${tag}`}
            onClick={() => {
              update.mutate({ tags: run.tags.filter((one) => one !== tag) });
            }}
          >
            <CloseIcon size={10} />
          </button>
        </span>
      ))}
      <input
        aria-label="Add a tag"
        placeholder="add a tag"
        value={draft}
        onChange={(event) => {
          setDraft(event.target.value);
        }}
        onKeyDown={(event) => {
          const tag = draft.trim();
          if (event.key !== "Enter" || tag === "") return;
          if (!run.tags.includes(tag)) update.mutate({ tags: [...run.tags, tag] });
          setDraft("");
        }}
      />
      <UpdateError error={update.error} />
    </div>
  );
}

function UpdateError({ error }: { error: unknown }) {
  if (error === null) return null;
  const { title, detail } = describeError(error);
  return (
    <p className="edit-error" role="alert">
      Not saved. {title}: {detail}
    </p>
  );
}
