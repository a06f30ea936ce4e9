// A dialogue over the page that asks before something is done. Focus and keys come from Radix.
import { Dialog as RadixDialog } from "radix-ui";
import type { ReactNode } from "react";
import { CloseIcon } from "./icons";

interface DialogProps {
  readonly isOpen: boolean;
  readonly onOpenChange: (isOpen: boolean) => void;
  readonly title: string;
  readonly description: ReactNode;
  readonly children: ReactNode;
}

export function Dialog({ isOpen, onOpenChange, title, description, children }: DialogProps) {
  return (
    <RadixDialog.Root open={isOpen} onOpenChange={onOpenChange}>
      <RadixDialog.Portal>
        <RadixDialog.Overlay className="dialog-shade" />
        <RadixDialog.Content className="dialog">
          <header>
            <RadixDialog.Title className="dialog-title">{title}</RadixDialog.Title>
            <RadixDialog.Close className="icon-button" aria-label="Close">
              <CloseIcon />
            </RadixDialog.Close>
          </header>
          <RadixDialog.Description className="dialog-text" asChild>
            <div>{description}</div>
          </RadixDialog.Description>
          {children}
        </RadixDialog.Content>
      </RadixDialog.Portal>
    </RadixDialog.Root>
  );
}

/** The buttons at the foot of a dialogue, and above them what went wrong. */
export function DialogActions({ error, children }: { error: string; children: ReactNode }) {
  return (
    <footer className="dialog-foot">
      {error === "" ? null : (
        <p className="dialog-error" role="alert">
          {error}
        </p>
      )}
      <div className="dialog-actions">{children}</div>
    </footer>
  );
}
