// One config or summary value in a table: four significant digits, exact on hover.
import { ExactNumber, type ExtendedValue, valueText } from "../api/extendedJson";
import { formatShort } from "../charts/format";

export function ValueCell({ value }: { value: ExtendedValue | undefined }) {
  if (value === undefined) return <span className="muted">–</span>;
  const exact = valueText(value);
  const shown = value instanceof ExactNumber && !/^-?\d+$/.test(exact) ? formatShort(value.value) : exact;
  return (
    <span className="cut" title={exact}>
      {shown}
    </span>
  );
}
