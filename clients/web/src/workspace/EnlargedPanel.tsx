// One panel over the whole page.
import { Dialog } from "radix-ui";
import { type ReactNode, useEffect, useState } from "react";
import { IconButton } from "../ui/controls";
import { CloseIcon } from "../ui/icons";

const SHARE = 0.92;

interface EnlargedPanelProps {
  readonly title: string;
  readonly render: (width: number, height: number) => ReactNode;
  readonly onClose: () => void;
}

export function EnlargedPanel({ title, render, onClose }: EnlargedPanelProps) {
  const { width, height } = useWindowSize();
  return (
    <Dialog.Root
      open
      onOpenChange={(isOpen) => {
        if (!isOpen) onClose();
      }}
    >
      <Dialog.Portal>
        <Dialog.Overlay className="overlay" />
        <Dialog.Content className="enlarged" aria-describedby={undefined}
          onOpenAutoFocus={(event) => {
            // The dialogue itself, not its button, whose hint would cover the chart.
            event.preventDefault();
            (event.currentTarget as HTMLElement).focus();
          }}
        >
          <Dialog.Title className="visually-hidden">{title}</Dialog.Title>
          {render(Math.floor(width * SHARE), Math.floor(height * SHARE))}
          <Dialog.Close asChild>
            <IconButton label="Close" className="enlarged-close">
              <CloseIcon />
            </IconButton>
          </Dialog.Close>
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

function useWindowSize(): { width: number; height: number } {
  const [size, setSize] = useState({ width: window.innerWidth, height: window.innerHeight });
  useEffect(() => {
    const onResize = (): void => {
      setSize({ width: window.innerWidth, height: window.innerHeight });
    };
    window.addEventListener("resize", onResize);
    return () => {
      window.removeEventListener("resize", onResize);
    };
  }, []);
  return size;
}
