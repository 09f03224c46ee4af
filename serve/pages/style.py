"""The CSS of the page."""

PIXELATED_UP_TO = 128  # pixels; larger pictures look better smoothed

CSS = """
.gradio-container {max-width: 1400px !important; overflow-x: hidden;}
#title h1 {margin: 0 0 .2rem;}
#title p {margin: 0; overflow-wrap: anywhere;}
#live {height: 340px; overflow: hidden;}
.live {display: flex; flex-direction: column; gap: 8px; height: 316px;}
.live .pictures {flex: 1; min-height: 0; display: grid; gap: 6px; justify-content: center;
  grid-template-columns: repeat(var(--columns, 1), minmax(0, calc((274px - 6px) / var(--rows, 1))));
  grid-template-rows: repeat(var(--rows, 1), minmax(0, 1fr));}
.live .pictures > * {width: 100%; height: 100%; min-width: 0; min-height: 0; margin: 0;
  object-fit: contain; border-radius: 4px;}
.live .pictures > span {background: var(--block-border-color); opacity: .35;}
.live progress {width: 100%; height: 8px; border: 0; border-radius: 4px; overflow: hidden;
  appearance: none; background: var(--border-color-primary);}
.live progress::-webkit-progress-bar {background: var(--border-color-primary);}
.live progress::-webkit-progress-value {background: var(--color-accent);}
.live progress::-moz-progress-bar {background: var(--color-accent);}
.live .status {margin: 0; min-height: 1.5em; overflow: hidden; text-overflow: ellipsis;
  font-variant-numeric: tabular-nums;}
.live .warning {margin: 0; max-height: 4.5em; overflow: auto; overflow-wrap: anywhere;}
.small-pictures img {image-rendering: pixelated;}
.small-pictures .preview .media-button img {width: 100%; height: 100%; object-fit: contain;}
#gallery .preview {background: var(--block-background-fill);}
#gallery .grid-wrap {padding-top: 36px;}
#gallery .caption-label {white-space: normal; max-width: calc(100% - 16px); text-align: right;}
#recipe .empty {min-height: 90px;}
@media (max-width: 500px) {
  .live .pictures {grid-template-rows: none; grid-auto-rows: minmax(0, 1fr);
    grid-template-columns: repeat(var(--square, 1), minmax(0, calc(268px / var(--square, 1))));}
  #gallery .grid-container {grid-template-columns: repeat(2, minmax(0, 1fr));}
}
#recipe .cm-content, #recipe .cm-line {white-space: pre-wrap; overflow-wrap: anywhere;}
"""
