// The few icons, drawn on a 16 x 16 grid in the text's colour.
import type { ReactNode } from "react";

function icon(content: ReactNode) {
  return function Icon({ size = 14 }: { size?: number }) {
    return (
      <svg
        width={size}
        height={size}
        viewBox="0 0 16 16"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.5"
        strokeLinecap="round"
        strokeLinejoin="round"
        aria-hidden="true"
      >
        {content}
      </svg>
    );
  };
}

export const SearchIcon = icon(<><circle cx="7" cy="7" r="4.5" /><path d="m10.5 10.5 3 3" /></>);
export const EyeIcon = icon(<><path d="M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8Z" /><circle cx="8" cy="8" r="2" /></>);
export const EyeOffIcon = icon(<><path d="M3 3l10 10M6.2 3.800A6 6 0 0 1 8 3.500c4 0 6.5 4.5 6.5 4.500a11 11 0 0 1-1.9 2.400M4.1 5A11 11 0 0 0 1.5 8S4 12.5 8 12.500c.9 0 1.7-.2 2.4-.5" /></>);
export const ExpandIcon = icon(<path d="M9.5 2.500h4v4M13.5 2.5 9 7M6.5 13.500h-4v-4M2.5 13.5 7 9" />);
export const CloseIcon = icon(<path d="m4 4 8 8M12 4l-8 8" />);
export const ChevronDown = icon(<path d="m4 6 4 4 4-4" />);
export const ChevronRight = icon(<path d="m6 4 4 4-4 4" />);
export const SunIcon = icon(<><circle cx="8" cy="8" r="3" /><path d="M8 1.500v1.200M8 13.300v1.200M1.5 8h1.200M13.3 8h1.200M3.4 3.400l.9.9M11.7 11.700l.9.9M12.6 3.400l-.9.9M4.3 11.700l-.9.9" /></>);
export const MoonIcon = icon(<path d="M13.5 9.500A6 6 0 0 1 6.5 2.500a6 6 0 1 0 7 7Z" />);
export const ScreenIcon = icon(<><rect x="2" y="3" width="12" height="8" rx="1" /><path d="M6 13.500h4" /></>);
export const CopyIcon = icon(<><rect x="5.5" y="5.5" width="8" height="8" rx="1.5" /><path d="M3.5 10.500a1 1 0 0 1-1-1v-6a1 1 0 0 1 1-1h6a1 1 0 0 1 1 1" /></>);
export const CheckIcon = icon(<path d="m3 8.5 3.5 3.500L13 4.5" />);
export const DownloadIcon = icon(<path d="M8 2.500v7.500M4.8 7 8 10.2 11.2 7M2.5 13.500h11" />);
export const ColumnsIcon = icon(<><rect x="2" y="2.5" width="12" height="11" rx="1" /><path d="M6.5 2.500v11M10.5 2.500v11" /></>);
export const PencilIcon = icon(<path d="m10.5 3 2.5 2.500L6 12.500l-3 .5.5-3L10.5 3Z" />);
export const ArrowDown = icon(<path d="M8 3v10M4 9l4 4 4-4" />);
export const ArrowUp = icon(<path d="M8 13V3M4 7l4-4 4 4" />);
export const PanelLeftIcon = icon(<><rect x="2" y="2.5" width="12" height="11" rx="1" /><path d="M6 2.500v11" /></>);
export const FileIcon = icon(<><path d="M9 1.500H4.500a1 1 0 0 0-1 1v11a1 1 0 0 0 1 1h7a1 1 0 0 0 1-1V5L9 1.500Z" /><path d="M9 1.500V5h3.5" /></>);
export const FolderIcon = icon(<path d="M1.500 4a1 1 0 0 1 1-1h3.300l1.700 2h6a1 1 0 0 1 1 1v6.500a1 1 0 0 1-1 1h-11a1 1 0 0 1-1-1V4Z" />);
export const TrashIcon = icon(<path d="M2.500 4.500h11M6.500 4.500v-2h3v2M4 4.500l.7 9h6.600l.7-9M6.700 7v4M9.300 7v4" />);
export const BellIcon = icon(<path d="M4 11.500V7a4 4 0 0 1 8 0v4.500M2.800 11.500h10.400M6.800 13.500h2.400" />);
export const DotIcon = icon(<circle cx="8" cy="8" r="3" />);
export const HourglassIcon = icon(<path d="M4.500 2.500h7M4.500 13.500h7M5 2.500c0 3.500 3 3.500 3 5.500s-3 2-3 5.500M11 2.500c0 3.500-3 3.500-3 5.500s3 2 3 5.500" />);
export const ClockIcon = icon(<><circle cx="8" cy="8" r="5.5" /><path d="M8 5v3l2 1.500" /></>);
export const WrapIcon = icon(<path d="M2.500 4h11M2.500 8h8.500a2 2 0 0 1 0 4H8.500M10 10.500 8.500 12l1.500 1.500M2.500 12h3" />);
