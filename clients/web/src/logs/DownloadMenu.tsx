// Downloads a log as text: the whole, or what one writer printed.
import { IconButton, Menu } from "../ui/controls";
import { DownloadIcon } from "../ui/icons";
import { beginDownload } from "./download";

interface DownloadProps {
  readonly runPath: string;
  /** Names of the writers, if there is more than one. */
  readonly labels: ReadonlyMap<number, string> | null;
}

const WRITERS_MAX = 40;

export function DownloadMenu({ runPath, labels }: DownloadProps) {
  const begin = (writer: number | null, hasTimes: boolean): void => {
    beginDownload({ runPath, writer, hasTimes, hasLabels: writer === null && labels !== null });
  };
  const writers = labels === null ? [] : [...labels].slice(0, WRITERS_MAX);
  return (
    <Menu
      trigger={
        <IconButton label="Download as text">
          <DownloadIcon />
        </IconButton>
      }
      items={[
        {
          label: "Whole log",
          onSelect: () => {
            begin(null, false);
          },
        },
        {
          label: "Whole log with times",
          onSelect: () => {
            begin(null, true);
          },
        },
        ...writers.map(([writer, label]) => ({
          label: `Only ${label}`,
          onSelect: () => {
            begin(writer, false);
          },
        })),
      ]}
    />
  );
}
