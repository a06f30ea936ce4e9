// Chooses the step that is looked at; arrow keys go from one to the next.
import { formatCount } from "../charts/format";
import { Slider } from "../ui/controls";

interface StepBarProps {
  readonly name: string;
  readonly steps: readonly number[];
  readonly place: number;
  /** True: follows the last step as it comes. */
  readonly isLast: boolean;
  readonly onStep: (step: number | null) => void;
}

export const STEP_BAR = 26;

export function StepBar({ name, steps, place, isLast, onStep }: StepBarProps) {
  const step = steps[place] ?? 0;
  return (
    <div className="step-bar" style={{ height: STEP_BAR }}>
      <Slider
        label={`Step of ${name}`}
        value={place}
        max={steps.length - 1}
        step={1}
        onValue={(next) => {
          onStep(next >= steps.length - 1 ? null : (steps[next] ?? null));
        }}
      />
      <output title={isLast ? "the last step" : ""}>step {formatCount(step)}</output>
    </div>
  );
}
