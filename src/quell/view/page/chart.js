// The signal of one voxel over the volumes, as SVG. All text is set as text, never as markup.

const NAMESPACE = 'http://www.w3.org/2000/svg'
const HEIGHT = 210
const MARGIN = { left: 52, right: 10, top: 10, bottom: 40 }
const B_STEP = 50 // s/mm²; b-values that round to the same multiple stand under one label

/** Draw the curves into `parent`, and say which volume was clicked.
 *
 * curves    per file: a value or null for every volume; files with one volume are left out
 * bvals     (V,) s/mm², or null
 * current   the volume shown
 * which     'file': in the order of the file; 'b': in order of b; 'same': those with this b only
 */
export function drawChart(parent, curves, bvals, current, which, onVolume) {
  const order = chosen(curves[0].length, bvals, current, which)
  const n = order.length
  const width = Math.max(240, parent.clientWidth)
  const shown = curves.map((curve) => (curve.length === curves[0].length ? order.map((v) => curve[v]) : []))
  const [low, high, ticks] = scaleOf(shown.flat().filter((a) => a !== null))
  const inner = width - MARGIN.left - MARGIN.right
  const x = (k) => MARGIN.left + (inner * (k + 0.5)) / n
  const y = (a) => HEIGHT - MARGIN.bottom - ((HEIGHT - MARGIN.top - MARGIN.bottom) * (a - low)) / (high - low)

  const svg = make('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: 'img' })
  svg.append(named('title', {}, 'The signal of this voxel in every volume'))
  for (const tick of ticks) {
    svg.append(make('line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }))
    svg.append(named('text', { x: MARGIN.left - 6, y: y(tick) + 4, 'text-anchor': 'end' }, short(tick)))
  }
  const here = x(order.indexOf(current))
  svg.append(make('line', { class: 'here', x1: here, x2: here, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }))
  shown.forEach((curve, i) => {
    for (const piece of pieces(curve)) {
      const points = piece.map(([k, a]) => `${x(k).toFixed(1)},${y(a).toFixed(1)}`)
      svg.append(make('polyline', { class: `series-${i}`, points: points.join(' ') }))
      if (inner / n >= 7 || piece.length === 1) {
        for (const [k, a] of piece) svg.append(make('circle', { class: `series-${i}`, cx: x(k), cy: y(a), r: 2.2 }))
      }
    }
  })
  labelVolumes(svg, order, x, inner / n)
  if (bvals) labelShells(svg, order.map((v) => shellOf(bvals[v])), x, inner / n)
  svg.addEventListener('click', (event) => {
    const box = svg.getBoundingClientRect()
    const k = Math.floor((((event.clientX - box.left) / box.width) * width - MARGIN.left) / (inner / n))
    onVolume(order[Math.min(n - 1, Math.max(0, k))])
  })
  parent.replaceChildren(svg)
}

const shellOf = (b) => Math.round(b / B_STEP) * B_STEP

/** The volumes to draw, in their order. */
function chosen(n, bvals, current, which) {
  const all = [...Array(n).keys()]
  if (!bvals || which === 'file') return all
  if (which === 'same') return all.filter((v) => shellOf(bvals[v]) === shellOf(bvals[current]))
  return all.sort((i, j) => bvals[i] - bvals[j] || i - j)
}

/** Numbers of the volumes, as many as there is room for. */
function labelVolumes(svg, order, x, step) {
  const every = Math.ceil(30 / step)
  for (let k = 0; k < order.length; k += every) {
    svg.append(named('text', { x: x(k), y: HEIGHT - MARGIN.bottom + 15, 'text-anchor': 'middle' }, String(order[k])))
  }
}

/** One label for each run of equal b-values, where there is room; a line where a run ends. */
function labelShells(svg, shells, x, step) {
  let end = -Infinity
  for (let start = 0, k = 1; k <= shells.length; k++) {
    if (k < shells.length && shells[k] === shells[start]) continue
    const text = `b ${shells[start]}`
    const middle = (x(start) + x(k - 1)) / 2
    const half = 3.6 * text.length + 4
    if (middle - half > end) {
      svg.append(named('text', { x: middle, y: HEIGHT - 6, 'text-anchor': 'middle', class: 'shell' }, text))
      end = middle + half
    }
    if (k < shells.length) {
      const at = x(k) - step / 2
      svg.append(make('line', { class: 'grid', x1: at, x2: at, y1: HEIGHT - MARGIN.bottom, y2: HEIGHT - MARGIN.bottom + 5 }))
    }
    start = k
  }
}

/** Runs of [position, value] without gaps. */
function pieces(values) {
  const found = [[]]
  values.forEach((a, k) => {
    if (a === null) found.push([])
    else found.at(-1).push([k, a])
  })
  return found.filter((piece) => piece.length)
}

/** Lowest and highest value of the axis, and round numbers between. */
function scaleOf(values) {
  let low = Math.min(...values)
  let high = Math.max(...values)
  if (!Number.isFinite(low)) [low, high] = [0, 1]
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2]
  const rough = (high - low) / 4
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((a) => a * power).find((a) => a >= rough)
  const ticks = []
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) ticks.push(tick)
  const room = (high - low) * 0.05
  return [low - room, high + room, ticks]
}

/** A number without digits that say nothing. */
export function short(a, digits = 5) {
  return a === null || a === undefined ? 'not a number' : String(Number(a.toPrecision(digits)))
}

export function make(tag, attributes) {
  const element = document.createElementNS(NAMESPACE, tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  return element
}

function named(tag, attributes, text) {
  const element = make(tag, attributes)
  element.textContent = text
  return element
}
