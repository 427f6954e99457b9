// Panes of one scan, before and after, that always show the same place, volume and window.
//
// Idea   NiiVue draws and takes mouse and touch; which voxel and which volume are shown is decided
//        here and given to all panes. Volumes are fetched one at a time, when they are looked at.
// Values All numbers in words come from the server, which reads them with nibabel; what NiiVue
//        holds are float32 pictures.
// Text   File names are untrusted: they are set with textContent and never become markup.

import { drawChart, make, short } from './chart.js'

const { Niivue, SLICE_TYPE, SHOW_RENDER, DRAG_MODE, cmapper } = globalThis.niivue

const SLICES = {
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
  all: SLICE_TYPE.MULTIPLANAR,
}
const KEPT_BYTES = 256e6 // of volumes already fetched
const FLICKER_MS = matchMedia('(prefers-reduced-motion: reduce)').matches ? 1500 : 600
const RATIO_SPAN = 3 // ± σ; noise leaves it in 0.3 % of the voxels, so anatomy shows
const ZOOM_STEP = 1.25
const DRAG_PIXELS = 250 // of a right drag that move the window by its own width
const NARROW = 760 // px, as in view.css
const VALUE_DIGITS = 9 // as many as tell every float32 from the next
const DIVERGING = { // blue where denoising made it brighter, black for no change, orange where darker
  R: [120, 20, 0, 200, 255],
  G: [200, 100, 0, 90, 200],
  B: [255, 200, 0, 20, 120],
  A: [255, 255, 255, 255, 255],
  I: [0, 64, 128, 192, 255],
}
cmapper.addColormap('quell-diverging', DIVERGING)

const $ = (id) => document.getElementById(id)

// ---- from the server ------------------------------------------------------------------------

async function ask(what) {
  const response = await fetch(what)
  if (!response.ok) throw new Error((await response.text()).trim())
  return response
}

const kept = new Map() // what was asked -> its voxels, the latest last

/** The NIfTI file at an address, from memory if it was shown lately. */
async function picture(what) {
  let buffer = kept.get(what)
  kept.delete(what)
  buffer ??= await (await ask(what)).arrayBuffer()
  kept.set(what, buffer)
  let bytes = 0
  for (const key of [...kept.keys()].reverse()) {
    bytes += kept.get(key).byteLength
    if (bytes > KEPT_BYTES && key !== what) kept.delete(key)
  }
  return buffer
}

/** The voxels of a float32 NIfTI-1 file: its header says at byte 108 where they begin. */
function voxelsOf(buffer) {
  return new Float32Array(buffer, new DataView(buffer).getFloat32(108, true))
}

// ---- a pane ---------------------------------------------------------------------------------

class Pane {
  constructor(title) {
    this.figure = document.createElement('figure')
    this.caption = document.createElement('figcaption')
    this.name(title)
    const screen = document.createElement('div')
    screen.className = 'screen'
    this.canvas = document.createElement('canvas')
    screen.append(this.canvas)
    this.figure.append(this.caption, screen)
    $('panes').append(this.figure)
    this.view = new Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [1, 0.75, 0.2, 0.8],
      crosshairGap: 4,
      crosshairWidth: innerWidth < NARROW ? 0.9 : 0.4,
      crosshairWidthUnit: 'percent',
      fontColor: [0.75, 0.78, 0.82, 1],
      dragAndDropEnabled: false, // only what was given on the command line is shown
      isForceMouseClickToVoxelCenters: true,
      isNearestInterpolation: true, // voxels as they are: smoothing would look like denoising
      isResizeCanvas: true,
      logLevel: 'error',
      multiplanarShowRender: SHOW_RENDER.NEVER,
      show3Dcrosshair: false,
    })
    this.view.setMouseEventConfig({
      leftButton: { primary: DRAG_MODE.crosshair, withShift: DRAG_MODE.pan },
      rightButton: DRAG_MODE.none, // see `onWindowDrag`
      centerButton: DRAG_MODE.pan,
    })
    this.view.setTouchEventConfig({ singleTouch: DRAG_MODE.crosshair, doubleTouch: DRAG_MODE.pan })
  }

  name(title) {
    this.caption.textContent = title
    this.caption.title = title
    this.canvas?.setAttribute('aria-label', title)
  }

  /** Show voxels: the image, and over it the difference if there is one. */
  async show(...buffers) {
    if (!this.view.gl) throw new Error('This browser offers no WebGL 2, which the images need.')
    for (const [layer, buffer] of buffers.entries()) {
      if (layer === this.view.volumes.length) await this.view.loadFromArrayBuffer(buffer.slice(0), 'volume.nii')
      this.view.volumes[layer].img = voxelsOf(buffer)
    }
  }

  /** Window of the image, the first layer. */
  window(low, high) {
    Object.assign(this.view.volumes[0], { cal_min: low, cal_max: high })
  }
}

// ---- what is shown --------------------------------------------------------------------------

const scans = await ask('scans').then((response) => response.json()).catch(fail)
const comparable = scans.files.map((file, i) => i).filter((i) => i > 0 && scans.files[i].volumes === scans.volumes)
const panes = []
const shown = {
  volume: 0,
  voxel: scans.shape.map((n) => Math.floor(n / 2)),
  compared: comparable[0],
  difference: '', // or 'difference', 'ratio'
  spans: { difference: 1, ratio: RATIO_SPAN }, // ± of the difference's colours
  hasOwnSpan: false, // set by hand: then noisy − denoised keeps it in other volumes, too
  low: 0,
  high: 1,
  signal: null,
}
let differencePane = null

function fail(error) {
  $('status').textContent = `This can't be shown: ${error.message}`
  $('status').classList.add('error')
  throw error
}

const everyPane = () => (differencePane ? [...panes, differencePane] : panes)
const volumeOf = (i) => (scans.files[i].volumes > 1 ? shown.volume : 0)
const nameOf = (i) => scans.files[i].name

/** Fetch and draw the volume, in all panes at once so that none runs ahead. */
async function showVolume(v) {
  delete document.body.dataset.volume // there again once all is drawn
  shown.volume = v
  const buffers = await Promise.all(scans.files.map((_, i) => picture(`volume/${i}/${volumeOf(i)}`)))
  for (const [i, pane] of panes.entries()) await pane.show(buffers[i])
  if ($('auto').checked) [shown.low, shown.high] = robustRange(voxelsOf(buffers[0]))
  await showDifference(buffers[shown.compared])
  applyWindow()
  labelVolume()
  drawValues()
  document.body.dataset.volume = String(v)
}

async function showDifference(image) {
  const isShown = shown.difference !== ''
  $('difference-options').hidden = !isShown
  if (differencePane) differencePane.figure.hidden = !isShown
  if (!isShown) return
  const what = `${shown.difference}/${shown.compared}/${shown.volume}`
  const values = await picture(what)
  if (shown.difference === 'difference' && !shown.hasOwnSpan) {
    shown.spans.difference = roundUp(robustRange(voxelsOf(values).map(Math.abs))[1])
  }
  if (!differencePane) {
    differencePane = new Pane('')
    differencePane.figure.append(colourScale())
    await attach(differencePane)
  }
  const name = nameOf(shown.compared)
  differencePane.name(`${nameOf(0)} − ${name}${shown.difference === 'ratio' ? ', in units of sigma' : ''}`)
  await differencePane.show(image ?? (await picture(`volume/${shown.compared}/${shown.volume}`)), values)
  differencePane.view.volumes[1].colormap = 'quell-diverging'
  place(differencePane)
}

/** 2nd and 99.8th percentile of a volume, from some thousand of its voxels. */
function robustRange(voxels) {
  const step = Math.max(1, Math.floor(voxels.length / 50000))
  const some = voxels.filter((_, k) => k % step === 0).sort()
  const at = (share) => some[Math.round(share * (some.length - 1))]
  const [low, high] = [at(0.02), at(0.998)]
  return high > low ? [low, high] : [some[0], Math.max(some.at(-1), some[0] + 1)]
}

const roundUp = (a) => {
  const power = 10 ** Math.floor(Math.log10(a))
  return Math.ceil(a / power) * power
}

/** Give window, colours and opacity to every pane and draw them. */
function applyWindow() {
  $('low').value = short(shown.low)
  $('high').value = short(shown.high)
  for (const pane of everyPane()) pane.window(shown.low, shown.high)
  if (shown.difference) {
    const span = shown.spans[shown.difference]
    $('span').value = short(span)
    Object.assign(differencePane.view.volumes[1], { cal_min: -span, cal_max: span, opacity: Number($('opacity').value) })
    const unit = shown.difference === 'ratio' ? ' σ' : ''
    const [left, right] = differencePane.figure.querySelectorAll('.scale span')
    left.textContent = `−${short(span)}${unit}`
    right.textContent = `+${short(span)}${unit}`
  }
  for (const pane of everyPane()) if (!pane.figure.hidden) pane.view.updateGLVolume()
}

function setWindow(low, high) {
  if (!(high > low)) return applyWindow() // not a window: the old numbers come back
  $('auto').checked = false
  Object.assign(shown, { low, high })
  applyWindow()
}

function colourScale() {
  const scale = document.createElement('div')
  scale.className = 'scale'
  scale.append(document.createElement('span'), document.createElement('i'), document.createElement('span'))
  return scale
}

// ---- one volume at a time, the latest wish first --------------------------------------------

let wish = null
let isBusy = false

async function goTo(v) {
  wish = Math.min(scans.volumes - 1, Math.max(0, v))
  $('volume').value = String(wish)
  if (isBusy) return
  isBusy = true
  try {
    while (wish !== null) {
      const next = wish
      wish = null
      await showVolume(next)
    }
    $('status').classList.remove('error')
  } catch (error) {
    fail(error)
  } finally {
    isBusy = false
  }
}

const again = () => goTo(wish ?? shown.volume)

function labelVolume() {
  const b = scans.bvals ? `, b ${Number(scans.bvals[shown.volume].toFixed(1))} s/mm²` : ''
  const text = `${shown.volume} (0 to ${scans.volumes - 1})${b}`
  $('volume-text').textContent = text
  $('volume').setAttribute('aria-valuetext', text)
}

// ---- the crosshair --------------------------------------------------------------------------

/** The voxel at a place in mm, as nibabel counts it. */
function voxelAt(mm) {
  return scans.voxelOfMm.slice(0, 3).map((row, axis) => {
    const k = Math.round(row[0] * mm[0] + row[1] * mm[1] + row[2] * mm[2] + row[3])
    return Math.min(scans.shape[axis] - 1, Math.max(0, k))
  })
}

/** Put a pane where the first one is. */
function place(pane) {
  const { scene, opts } = panes[0].view
  if (pane === panes[0]) return
  pane.view.scene.crosshairPos = scene.crosshairPos.slice()
  pane.view.scene.pan2Dxyzmm = scene.pan2Dxyzmm.slice()
  pane.view.opts.sliceType = opts.sliceType
}

/** Give the place and zoom of one pane to the others. */
function link(from) {
  const { scene } = from.view
  for (const pane of everyPane()) {
    if (pane === from || pane.figure.hidden) continue
    pane.view.scene.crosshairPos = scene.crosshairPos.slice()
    pane.view.scene.pan2Dxyzmm = scene.pan2Dxyzmm.slice()
    pane.view.drawScene()
  }
}

function moveTo(voxel) {
  const view = panes[0].view
  const mm = scans.mmOfVoxel.slice(0, 3).map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3])
  view.scene.crosshairPos = view.mm2frac([...mm, 1], 0, true)
  view.drawScene()
  view.createOnLocationChange()
}

/** One voxel to the right, anterior, superior, whatever the order of the file's axes. */
function step(...by) {
  panes[0].view.moveCrosshairInVox(...by)
}

let signalWish = null
let isAsking = false

/** Where the crosshair is, in words; the values follow from the server. */
async function locate(mm) {
  shown.voxel = voxelAt(mm)
  for (const [axis, id] of ['x', 'y', 'z'].entries()) {
    if (document.activeElement !== $(id)) $(id).value = String(shown.voxel[axis])
  }
  $('mm').textContent = `${[...mm].slice(0, 3).map((a) => a.toFixed(1)).join(', ')} mm`
  signalWish = shown.voxel
  delete document.body.dataset.voxel // there again once the values are
  if (isAsking) return
  isAsking = true
  try {
    while (signalWish) {
      const [x, y, z] = signalWish
      signalWish = null
      shown.signal = await ask(`signal?x=${x}&y=${y}&z=${z}`).then((response) => response.json())
      shown.signal.voxel = [x, y, z]
    }
    drawValues()
  } catch (error) {
    fail(error)
  } finally {
    isAsking = false
  }
}

// ---- values and curve -----------------------------------------------------------------------

function drawValues() {
  if (!shown.signal) return
  const at = (curve) => curve[curve.length > 1 ? shown.volume : 0]
  const noisy = at(shown.signal.files[0])
  const sigma = shown.signal.sigma && at(shown.signal.sigma)
  const rows = shown.signal.files.map((curve, i) => {
    const value = at(curve)
    const isCompared = comparable.includes(i) && value !== null && noisy !== null
    const difference = isCompared ? noisy - value : undefined
    const cells = [short(value, VALUE_DIGITS), isCompared ? short(difference) : '']
    if (shown.signal.sigma) cells.push(isCompared && sigma > 0 ? short(difference / sigma) : '')
    return row(nameOf(i), cells, i)
  })
  if (shown.signal.sigma) rows.push(row('sigma', [short(sigma, VALUE_DIGITS), '', '']))
  $('values').replaceChildren(...rows)
  if (scans.volumes > 1) {
    drawChart($('chart'), shown.signal.files, scans.bvals, shown.volume, $('order').value, goTo)
  }
  document.body.dataset.voxel = shown.signal.voxel.join(' ')
}

function row(name, cells, i) {
  const line = document.createElement('tr')
  const head = document.createElement('th')
  head.scope = 'row'
  head.textContent = name
  line.append(head)
  for (const text of cells) {
    const cell = document.createElement('td')
    cell.textContent = text
    line.append(cell)
  }
  if (i !== undefined) line.dataset.file = String(i)
  return line
}

function drawLegend() {
  const items = scans.files.map((file, i) => {
    const item = document.createElement('li')
    const sample = make('svg', { width: 22, height: 8, 'aria-hidden': 'true' })
    sample.append(make('line', { class: `series-${i}`, x1: 0, x2: 22, y1: 4, y2: 4, 'stroke-width': 3 }))
    const name = document.createElement('bdi')
    name.textContent = file.name
    item.append(sample, name)
    item.hidden = file.volumes !== scans.volumes
    return item
  })
  $('legend').replaceChildren(...items)
}

// ---- flicker, difference, slices, zoom ------------------------------------------------------

let timer = null

/** Lay the compared pane over the noisy one, or side by side again. */
function stack(isStacked) {
  clearInterval(timer)
  $('panes').classList.toggle('stacked', isStacked)
  $('beside').hidden = !isStacked
  $('flicker').setAttribute('aria-pressed', 'false')
  for (const [i, pane] of panes.entries()) {
    pane.figure.classList.toggle('compared', isStacked && i === shown.compared)
    pane.figure.classList.toggle('under', isStacked && i === shown.compared)
  }
}

const isStacked = () => $('panes').classList.contains('stacked')

function swap() {
  for (const i of [0, shown.compared]) panes[i].figure.classList.toggle('under')
}

/** By turns on their own, or stopped at the one that is shown. */
function flicker() {
  const isOn = $('flicker').getAttribute('aria-pressed') !== 'true'
  if (!isStacked()) stack(true)
  clearInterval(timer)
  if (isOn) timer = setInterval(swap, FLICKER_MS)
  $('flicker').setAttribute('aria-pressed', String(isOn))
}

/** By hand: the first time lays them over each other, then each time shows the other one. */
function swapOnce() {
  clearInterval(timer)
  $('flicker').setAttribute('aria-pressed', 'false')
  if (isStacked()) swap()
  else stack(true)
}

function setSlices(name) {
  $('slices').value = name
  for (const pane of everyPane()) pane.view.setSliceType(SLICES[name])
}

/** Zoom by a factor about the crosshair; 0 shows the whole image again. */
function zoom(factor) {
  const view = panes[0].view
  const [x, y, z, old] = view.scene.pan2Dxyzmm
  const mm = view.frac2mm(view.scene.crosshairPos)
  const now = Math.min(20, Math.max(1, old * factor))
  // NiiVue shows place · zoom + pan; the crosshair is to stay where it is on the screen
  const pan = factor === 0 || now === 1 ? [0, 0, 0] : [x, y, z].map((p, k) => p + (old - now) * mm[k])
  view.setPan2Dxyzmm([...pan, factor === 0 ? 1 : now])
  link(panes[0])
}

function cycleDifference() {
  const choices = [...$('difference').options].filter((option) => !option.disabled).map((option) => option.value)
  $('difference').value = choices[(choices.indexOf(shown.difference) + 1) % choices.length]
  $('difference').dispatchEvent(new Event('change'))
}

function resetWindow() {
  $('auto').checked = true
  shown.hasOwnSpan = false
  shown.spans.ratio = RATIO_SPAN
  again()
}

const KEYS = {
  ArrowLeft: () => step(-1, 0, 0),
  ArrowRight: () => step(1, 0, 0),
  ArrowUp: () => step(0, 1, 0),
  ArrowDown: () => step(0, -1, 0),
  PageUp: () => step(0, 0, 1),
  PageDown: () => step(0, 0, -1),
  n: () => goTo((wish ?? shown.volume) + 1),
  p: () => goTo((wish ?? shown.volume) - 1),
  f: flicker,
  x: swapOnce,
  s: () => stack(false),
  d: cycleDifference,
  w: resetWindow,
  1: () => setSlices('axial'),
  2: () => setSlices('coronal'),
  3: () => setSlices('sagittal'),
  4: () => setSlices('all'),
  '+': () => zoom(ZOOM_STEP),
  '=': () => zoom(ZOOM_STEP), // the same key without Shift
  '-': () => zoom(1 / ZOOM_STEP),
  0: () => zoom(0),
}

/** Keys of the page; fields keep theirs, and NiiVue's own (some of which lead astray) are not used. */
function onKey(event) {
  const { target } = event
  const isField = target.matches('select, input:not([type=checkbox])')
  if (target.matches('canvas')) event.stopPropagation()
  if (event.key === 'Enter' && target.matches('input[type=number]')) target.blur() // taken; keys act again
  if (event.ctrlKey || event.metaKey || event.altKey || isField) return
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key]
  if (!act || event.type !== 'keydown') return
  event.preventDefault()
  act()
}

/** With Ctrl, as trackpads report a pinch, the wheel zooms; without, NiiVue turns slices. */
function onWheel(event) {
  if (!event.ctrlKey) return
  event.preventDefault()
  event.stopImmediatePropagation()
  zoom(event.deltaY < 0 ? ZOOM_STEP : 1 / ZOOM_STEP)
}

/** Window by right drag: to the right it widens, upwards its middle rises; a double click resets it.
 *
 * NiiVue's own ways are not used: its box reads the mirrored place in files whose first axis points
 * to the left, and its windowing moves by two units a pixel, whatever the units.
 */
function onWindowDrag(canvas) {
  let start = null
  const quiet = (event) => (event.button === 2 || event.type === 'dblclick') && event.stopImmediatePropagation()
  canvas.addEventListener('dblclick', resetWindow, { capture: true })
  for (const kind of ['mousedown', 'mouseup', 'dblclick']) canvas.addEventListener(kind, quiet, { capture: true })
  canvas.addEventListener('pointerdown', (event) => {
    if (event.button !== 2) return
    start = { x: event.clientX, y: event.clientY, middle: (shown.low + shown.high) / 2, width: shown.high - shown.low }
    canvas.setPointerCapture(event.pointerId)
  })
  canvas.addEventListener('pointermove', (event) => {
    if (!start) return
    const half = (start.width / 2) * Math.exp((event.clientX - start.x) / DRAG_PIXELS)
    const middle = start.middle + (start.width * (start.y - event.clientY)) / DRAG_PIXELS
    setWindow(middle - half, middle + half)
  })
  for (const kind of ['pointerup', 'pointercancel']) canvas.addEventListener(kind, () => (start = null))
}

// ---- the beginning --------------------------------------------------------------------------

/** Give a pane its canvas and hear of what is done in it. */
async function attach(pane) {
  await pane.view.attachToCanvas(pane.canvas)
  pane.view.onLocationChange = (location) => {
    link(pane)
    locate(location.mm)
  }
  pane.canvas.addEventListener('wheel', onWheel, { capture: true, passive: false })
  onWindowDrag(pane.canvas)
  let isDue = false
  const afterwards = () => { // NiiVue tells nobody of a pan
    if (isDue) return
    isDue = true
    requestAnimationFrame(() => {
      isDue = false
      link(pane)
    })
  }
  for (const kind of ['wheel', 'mouseup', 'touchmove', 'touchend']) pane.canvas.addEventListener(kind, afterwards)
  pane.canvas.addEventListener('mousemove', (event) => event.buttons && afterwards())
}

function listen() {
  const number = (id) => ($(id).value === '' ? NaN : Number($(id).value))
  for (const form of document.forms) form.addEventListener('submit', (event) => event.preventDefault())
  $('volume').addEventListener('input', () => goTo(Number($('volume').value)))
  $('previous').addEventListener('click', KEYS.p)
  $('next').addEventListener('click', KEYS.n)
  $('flicker').addEventListener('click', flicker)
  $('beside').addEventListener('click', KEYS.s)
  $('swap').addEventListener('click', swapOnce)
  $('compare').addEventListener('change', () => {
    stack(false)
    shown.compared = Number($('compare').value)
    again()
  })
  $('difference').addEventListener('change', () => {
    shown.difference = $('difference').value
    again()
  })
  $('span').addEventListener('change', () => {
    if (number('span') > 0) {
      shown.spans[shown.difference] = number('span')
      shown.hasOwnSpan ||= shown.difference === 'difference'
    }
    applyWindow()
  })
  $('opacity').addEventListener('input', applyWindow)
  for (const id of ['low', 'high']) {
    $(id).addEventListener('change', () => setWindow(number('low'), number('high')))
  }
  $('auto').addEventListener('change', again)
  $('slices').addEventListener('change', () => setSlices($('slices').value))
  $('zoom-in').addEventListener('click', () => zoom(ZOOM_STEP))
  $('zoom-out').addEventListener('click', () => zoom(1 / ZOOM_STEP))
  $('zoom-reset').addEventListener('click', () => zoom(0))
  for (const [axis, id] of ['x', 'y', 'z'].entries()) {
    $(id).max = String(scans.shape[axis] - 1)
    $(id).addEventListener('change', () => {
      const voxel = ['x', 'y', 'z'].map((other, k) => Math.round(Math.min(scans.shape[k] - 1, Math.max(0, number(other) || 0))))
      $(id).value = String(voxel[axis])
      moveTo(voxel)
    })
  }
  $('order').addEventListener('change', drawValues)
  for (const kind of ['keydown', 'keyup']) window.addEventListener(kind, onKey, { capture: true })
  new ResizeObserver(drawValues).observe($('chart'))
}

async function begin() {
  document.title = `${nameOf(0)} – quell view`
  $('volume').max = String(scans.volumes - 1)
  $('volume-group').hidden = $('curve').hidden = scans.volumes === 1
  $('order-group').hidden = !scans.bvals
  $('compare-group').hidden = comparable.length < 2
  $('compare').replaceChildren(...comparable.map((i) => new Option(nameOf(i), String(i))))
  $('difference').options[2].disabled = !scans.hasSigma
  $('difference').options[2].hidden = !scans.hasSigma
  if (scans.hasSigma) {
    const head = document.createElement('th')
    head.scope = 'col'
    head.textContent = 'In sigma'
    $('values-head').append(head)
  }
  drawLegend()
  for (const file of scans.files) {
    const pane = new Pane(file.name)
    panes.push(pane)
    await attach(pane)
  }
  panes[0].figure.classList.add('noisy')
  await goTo(0)
  setSlices(innerWidth < NARROW ? 'axial' : 'all')
  moveTo(shown.voxel)
  listen()
  $('status').textContent = `${scans.shape.join(' × ')} voxels, ${scans.volumes === 1 ? 'one volume' : `${scans.volumes} volumes`}`
  document.body.dataset.ready = 'yes'
}

begin().catch(fail)
