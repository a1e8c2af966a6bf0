import type { Shape, Size } from './draw-shape.ts'
import { escaped } from './html-text.ts'

/** The shapes as an SVG element that stands in a page and says what it shows. */
export function svgOf(shapes: readonly Shape[], size: Size, title: string): string {
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${size.height}" role="img" aria-label="${escaped(title)}">`
  return `${head}<title>${escaped(title)}</title>${shapes.map(element).join('')}</svg>`
}

function element(shape: Shape): string {
  switch (shape.kind) {
    case 'rect':
      return `<rect x="${n(shape.x)}" y="${n(shape.y)}" width="${n(shape.width)}" height="${n(shape.height)}" fill="${shape.fill}"${closed('rect', shape.label)}`
    case 'path': {
      const look = `fill="${shape.fill ?? 'none'}"${shape.opacity === 1 ? '' : ` fill-opacity="${shape.opacity}"`}${stroked(shape.stroke, shape.width, shape.dash)}`
      return `<path d="${shape.d}" ${look}${closed('path', shape.label)}`
    }
    case 'line':
      return `<line x1="${n(shape.x1)}" y1="${n(shape.y1)}" x2="${n(shape.x2)}" y2="${n(shape.y2)}"${stroked(shape.stroke, shape.width, shape.dash)}/>`
    case 'text': {
      const turned = shape.degrees === 0 ? '' : ` transform="rotate(${n(shape.degrees)} ${n(shape.x)} ${n(shape.y)})"`
      const place = `x="${n(shape.x)}" y="${n(shape.y)}" text-anchor="${shape.anchor}" font-size="${shape.size}" fill="${shape.fill}"`
      return `<text ${place}${turned}>${escaped(shape.text)}</text>`
    }
  }
}

function stroked(stroke: string | null, width: number, dash: readonly number[]): string {
  if (stroke === null) return ''
  return ` stroke="${stroke}" stroke-width="${width}" stroke-linejoin="round"${dash.length === 0 ? '' : ` stroke-dasharray="${dash.join(' ')}"`}`
}

function closed(name: string, label: string | undefined): string {
  return label === undefined ? '/>' : `><title>${escaped(label)}</title></${name}>`
}

function n(value: number): string {
  return String(Number(value.toFixed(2)))
}
