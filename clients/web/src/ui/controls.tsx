// Buttons, hints, menus, fields: the few controls that every page is made of. Behaviour comes from Radix.
import { DropdownMenu, Slider as RadixSlider, Tooltip } from "radix-ui";
import { type ButtonHTMLAttributes, type ReactNode, useEffect, useRef, useState } from "react";
import { Link, useLocation } from "react-router";
import { CheckIcon, CloseIcon, CopyIcon, SearchIcon } from "./icons";

type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement>;

export function Button({ className = "", ...props }: ButtonProps) {
  return <button type="button" className={`button ${className}`} {...props} />;
}

/** A button that shows an icon only; its label is read out and shown as a hint. */
export function IconButton({ label, isOn, className = "", ...props }: ButtonProps & { label: string; isOn?: boolean }) {
  return (
    <Hint text={label}>
      <button
        type="button"
        className={`icon-button ${isOn === true ? "on" : ""} ${className}`}
        aria-label={label}
        {...(isOn === undefined ? {} : { "aria-pressed": isOn })}
        {...props}
      />
    </Hint>
  );
}

export function Hint({ text, children, side = "bottom" }: { text: ReactNode; children: ReactNode; side?: "bottom" | "top" | "right" }) {
  if (text === "" || text === null) return children;
  return (
    <Tooltip.Root>
      <Tooltip.Trigger asChild>{children}</Tooltip.Trigger>
      <Tooltip.Portal>
        <Tooltip.Content className="hint" side={side} sideOffset={5} collisionPadding={8}>
          {text}
        </Tooltip.Content>
      </Tooltip.Portal>
    </Tooltip.Root>
  );
}

export interface MenuItem {
  readonly label: string;
  readonly icon?: ReactNode;
  readonly isChecked?: boolean;
  readonly onSelect: () => void;
}

export function Menu({ trigger, items }: { trigger: ReactNode; items: readonly MenuItem[] }) {
  return (
    <DropdownMenu.Root>
      <DropdownMenu.Trigger asChild>{trigger}</DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content className="menu" align="end" sideOffset={4} collisionPadding={8}>
          {items.map((item) => (
            <DropdownMenu.Item key={item.label} className="menu-item" onSelect={item.onSelect}>
              <span className="menu-icon">{item.icon}</span>
              {item.label}
              <span className="menu-check">{item.isChecked === true ? <CheckIcon /> : null}</span>
            </DropdownMenu.Item>
          ))}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}

interface SearchProps {
  readonly label: string;
  readonly text: string;
  readonly onText: (text: string) => void;
  /** Pressing "/" puts the cursor here. */
  readonly hasShortcut?: boolean;
  /** Called for Enter, and with true for Shift+Enter. */
  readonly onEnter?: (isBackward: boolean) => void;
  /** Id of the element that says what is wrong with the text. */
  readonly errorId?: string | undefined;
}

export function SearchInput({ label, text, onText, hasShortcut = false, onEnter, errorId }: SearchProps) {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (!hasShortcut) return;
    const onKey = (event: KeyboardEvent): void => {
      const isTyping = event.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
      if (event.key !== "/" || isTyping || event.metaKey || event.ctrlKey) return;
      event.preventDefault();
      input.current?.focus();
    };
    window.addEventListener("keydown", onKey);
    return () => {
      window.removeEventListener("keydown", onKey);
    };
  }, [hasShortcut]);
  return (
    <div className="search">
      <SearchIcon />
      <input
        ref={input}
        type="text"
        role="searchbox"
        aria-label={label}
        placeholder={label}
        value={text}
        spellCheck={false}
        autoComplete="off"
        onChange={(event) => {
          onText(event.target.value);
        }}
        {...(errorId === undefined ? {} : { "aria-invalid": true, "aria-describedby": errorId })}
        onKeyDown={(event) => {
          if (event.key === "Enter") onEnter?.(event.shiftKey);
          if (event.key !== "Escape") return;
          onText("");
          input.current?.blur();
        }}
      />
      {text === "" ? (
        hasShortcut ? <kbd aria-hidden="true">/</kbd> : null
      ) : (
        <button
          type="button"
          className="search-clear"
          aria-label="Clear"
          onClick={() => {
            onText("");
            input.current?.focus();
          }}
        >
          <CloseIcon size={12} />
        </button>
      )}
    </div>
  );
}

interface SliderProps {
  readonly label: string;
  readonly value: number;
  readonly max: number;
  readonly step: number;
  readonly onValue: (value: number) => void;
}

export function Slider({ label, value, max, step, onValue }: SliderProps) {
  return (
    <RadixSlider.Root
      className="slider"
      min={0}
      max={max}
      step={step}
      value={[value]}
      onValueChange={([next]) => {
        onValue(next ?? 0);
      }}
    >
      <RadixSlider.Track className="slider-track">
        <RadixSlider.Range className="slider-range" />
      </RadixSlider.Track>
      <RadixSlider.Thumb className="slider-thumb" aria-label={label} />
    </RadixSlider.Root>
  );
}

const COPIED_MS = 1_200;

/** Copies a text, and says that it did. */
export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const [isCopied, setCopied] = useState(false);
  useEffect(() => {
    if (!isCopied) return;
    const timer = setTimeout(() => {
      setCopied(false);
    }, COPIED_MS);
    return () => {
      clearTimeout(timer);
    };
  }, [isCopied]);
  return (
    <IconButton
      label={isCopied ? "Copied" : label}
      className="copy"
      onClick={(event) => {
        event.stopPropagation();
        void navigator.clipboard.writeText(text).then(() => {
          setCopied(true);
        });
      }}
    >
      {isCopied ? <CheckIcon size={13} /> : <CopyIcon size={13} />}
    </IconButton>
  );
}

export interface Tab {
  readonly to: string;
  readonly label: string;
  readonly count?: string;
}

/** One address can be written in several ways: names hold characters that need no encoding but may have it. */
function decoded(address: string): string {
  try {
    return decodeURIComponent(address);
  } catch {
    return address;
  }
}

/** A bar of links that look like tabs. */
export function TabLinks({ tabs, label }: { tabs: readonly Tab[]; label: string }) {
  const here = decoded(useLocation().pathname);
  return (
    <nav className="tabs" aria-label={label}>
      {tabs.map(({ to, label: name, count }) => {
        const isHere = decoded(to) === here;
        return (
          <Link key={to} to={to} className={`tab ${isHere ? "active" : ""}`} aria-current={isHere ? "page" : undefined}>
            {name}
            {count === undefined ? null : <span className="tab-count">{count}</span>}
          </Link>
        );
      })}
    </nav>
  );
}
