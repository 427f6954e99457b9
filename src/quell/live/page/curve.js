// The curve of a loss, as SVG.

const NAMESPACE = 'http://www.w3.org/2000/svg'
const HEIGHT = 190
const MARGIN = { left: 62, right: 14, top: 10, bottom: 26 }

/** Draw a curve of {steps, losses, total}; a loss that is no number is null. */
export function drawCurve(parent, curve, isLog, name) {
  const width = Math.max(240, parent.clientWidth)
  const scale = isLog ? logScale(curve.losses) : linearScale(curve.losses)
  const x = (step) => MARGIN.left + (step / curve.total) * (width - MARGIN.left - MARGIN.right)
  const y = (loss) => HEIGHT - MARGIN.bottom - scale.share(loss) * (HEIGHT - MARGIN.top - MARGIN.bottom)
  const last = curve.losses.findLast((a) => a !== null)
  const svg = make('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, role: 'img' })
  svg.setAttribute('aria-label', `Loss of ${name} after ${curve.steps.at(-1)} of ${curve.total} steps: ${short(last)}`)
  for (const tick of scale.ticks) {
    svg.append(make('line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }))
    svg.append(make('text', { x: MARGIN.left - 6, y: y(tick) + 4, 'text-anchor': 'end' }, short(tick)))
  }
  for (const step of [0, curve.total]) {
    const anchor = step ? 'end' : 'start'
    svg.append(make('text', { x: x(step), y: HEIGHT - 6, 'text-anchor': anchor }, step ? `${step} steps` : '0'))
  }
  for (const piece of pieces(curve)) {
    const points = piece.map(([step, loss]) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`)
    if (points.length > 1) svg.append(make('polyline', { points: points.join(' ') }))
    const [step, loss] = piece.at(-1)
    svg.append(make('circle', { cx: x(step), cy: y(loss), r: 2.5 }))
  }
  parent.replaceChildren(svg)
}

/** Whether a curve falls so far that only a logarithmic axis shows its end. */
export function isLogBetter(losses) {
  const all = losses.filter((a) => a !== null)
  return canBeLog(losses) && Math.max(...all) > 10 * Math.min(...all)
}

export const canBeLog = (losses) => losses.some((a) => a !== null) && losses.every((a) => a === null || a > 0)

/** Runs of [step, loss] without gaps. */
function pieces({ steps, losses }) {
  const found = [[]]
  losses.forEach((loss, i) => {
    if (loss === null) found.push([])
    else found.at(-1).push([steps[i], loss])
  })
  return found.filter((piece) => piece.length)
}

function linearScale(losses) {
  let [low, high] = rangeOf(losses)
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2]
  const rough = (high - low) / 4
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((a) => a * power).find((a) => a >= rough)
  const ticks = []
  for (let n = Math.ceil(low / step); n * step <= high; n++) ticks.push(n * step)
  return scaleOf(low, high, ticks, (a) => a)
}

function logScale(losses) {
  let [low, high] = rangeOf(losses)
  if (high < 2 * low) [low, high] = [low / 1.5, high * 1.5]
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))]
  const factors = to - from <= 2 ? [1, 2, 5] : [1]
  const every = Math.ceil((to - from) / 6)
  const ticks = []
  for (let n = from; n <= to; n += every) ticks.push(...factors.map((a) => a * 10 ** n))
  return scaleOf(low, high, ticks.filter((a) => a >= low && a <= high), Math.log10)
}

function scaleOf(low, high, ticks, along) {
  const room = (along(high) - along(low)) * 0.05
  const [from, to] = [along(low) - room, along(high) + room]
  return { ticks, share: (a) => (along(a) - from) / (to - from) }
}

function rangeOf(losses) {
  const all = losses.filter((a) => a !== null)
  return all.length ? [Math.min(...all), Math.max(...all)] : [0, 1]
}

/** A number without digits that say nothing. */
export const short = (a) => (a === undefined ? 'not a number' : String(Number(a.toPrecision(4))).replace('-', '−'))

function make(tag, attributes, text = '') {
  const element = document.createElementNS(NAMESPACE, tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.textContent = text
  return element
}
