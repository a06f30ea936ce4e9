// Chooses the config and summary columns of the runs table.
import { Popover } from "radix-ui";
import { useState } from "react";
import { Button, SearchInput } from "../ui/controls";
import { CheckIcon, ColumnsIcon } from "../ui/icons";
import { type KeyCount, keyOfColumn } from "./columns";

interface ColumnMenuProps {
  readonly keys: readonly KeyCount[];
  readonly chosen: readonly string[];
  readonly isAutomatic: boolean;
  readonly onChosen: (ids: readonly string[] | null) => void;
}

const LISTED_MAX = 300;

export function ColumnMenu({ keys, chosen, isAutomatic, onChosen }: ColumnMenuProps) {
  const [search, setSearch] = useState("");
  const wanted = search.toLowerCase();
  const known = new Set(keys.map(({ id }) => id));
  const ids = [...chosen.filter((id) => !known.has(id)), ...known].filter((id) => keyOfColumn(id).toLowerCase().includes(wanted));
  return (
    <Popover.Root>
      <Popover.Trigger asChild>
        <Button>
          <ColumnsIcon /> Columns
        </Button>
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content className="menu column-menu" align="end" sideOffset={4} collisionPadding={8}>
          <SearchInput label="Search columns" text={search} onText={setSearch} />
          <div className="column-choices">
            <Choices title="Config" prefix="c:" ids={ids} chosen={chosen} onChosen={onChosen} />
            <Choices title="Summary" prefix="s:" ids={ids} chosen={chosen} onChosen={onChosen} />
            {ids.length === 0 ? <p className="nothing">The runs listed have no such key.</p> : null}
            {ids.length > LISTED_MAX ? <p className="nothing">{ids.length} keys; search for the others.</p> : null}
          </div>
          <Button
            className="small"
            disabled={isAutomatic}
            onClick={() => {
              onChosen(null);
            }}
          >
            Choose automatically
          </Button>
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}

interface ChoicesProps {
  readonly title: string;
  readonly prefix: string;
  readonly ids: readonly string[];
  readonly chosen: readonly string[];
  readonly onChosen: (ids: readonly string[]) => void;
}

function Choices({ title, prefix, ids, chosen, onChosen }: ChoicesProps) {
  const own = ids.filter((id) => id.startsWith(prefix)).slice(0, LISTED_MAX);
  if (own.length === 0) return null;
  return (
    <fieldset>
      <legend>{title}</legend>
      {own.map((id) => {
        const isChosen = chosen.includes(id);
        return (
          <button
            key={id}
            type="button"
            role="checkbox"
            aria-checked={isChosen}
            className="menu-item"
            onClick={() => {
              onChosen(isChosen ? chosen.filter((one) => one !== id) : [...chosen, id]);
            }}
          >
            <span className="cut" title={keyOfColumn(id)}>
              {keyOfColumn(id)}
            </span>
            <span className="menu-check">{isChosen ? <CheckIcon /> : null}</span>
          </button>
        );
      })}
    </fieldset>
  );
}
