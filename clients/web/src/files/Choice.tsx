// A few buttons of which one is pressed.

interface ChoiceProps {
  readonly label: string;
  readonly options: readonly string[];
  readonly chosen: string;
  readonly onChoose: (option: string) => void;
}

export function Choice({ label, options, chosen, onChoose }: ChoiceProps) {
  return (
    <div className="choice" role="group" aria-label={label}>
      {options.map((option) => (
        <button
          key={option}
          type="button"
          aria-pressed={option === chosen}
          className={option === chosen ? "on" : ""}
          onClick={() => {
            onChoose(option);
          }}
        >
          {option}
        </button>
      ))}
    </div>
  );
}
