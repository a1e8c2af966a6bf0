import type { Shape } from './draw-shape.ts'
import type { Pages } from './pdf-pages.ts'

/** Draws the shapes on the page, so many points to a unit, from its left edge and where it is filled to. */
export function drawShapes(pages: Pages, shapes: readonly Shape[], scale: number): void {
  const { doc } = pages
  doc.save()
  doc.translate(pages.left, pages.y).scale(scale)
  for (const shape of shapes) drawShape(pages, shape)
  doc.restore()
}

function drawShape(pages: Pages, shape: Shape): void {
  const { doc } = pages
  switch (shape.kind) {
    case 'rect':
      doc.rect(shape.x, shape.y, shape.width, shape.height).fill(shape.fill)
      return
    case 'path':
      return drawPath(pages, shape)
    case 'line':
      doc.lineWidth(shape.width).moveTo(shape.x1, shape.y1).lineTo(shape.x2, shape.y2).stroke(shape.stroke)
      return
    case 'text':
      pages.text(pages.regular, shape.text, shape.size, shape.x, shape.y, { align: shape.anchor, colour: shape.fill, degrees: shape.degrees })
  }
}

function drawPath({ doc }: Pages, shape: Extract<Shape, { kind: 'path' }>): void {
  doc.save()
  doc.lineWidth(shape.width).lineJoin('round')
  if (shape.dash.length > 1) doc.dash(shape.dash[0] ?? 1, { space: shape.dash[1] ?? 1 })
  if (shape.opacity < 1) doc.fillOpacity(shape.opacity)
  doc.path(shape.d)
  if (shape.fill !== null && shape.stroke !== null) doc.fillAndStroke(shape.fill, shape.stroke)
  else if (shape.fill !== null) doc.fill(shape.fill)
  else if (shape.stroke !== null) doc.stroke(shape.stroke)
  doc.restore()
}
