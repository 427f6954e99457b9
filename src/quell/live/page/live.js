// The page of a run. All text that comes from outside is set as text, never as markup.

import { canBeLog, drawCurve, isLogBetter } from './curve.js'

const TRIES = 5 // without an answer, before the page gives up
const TRY_AGAIN = 2000 // ms

const byId = (id) => document.getElementById(id)
let state = null
let isLog = null // as chosen by hand; null: as fits the curves
let shown = 0 // number of the picture

follow()
byId('log').addEventListener('change', (event) => {
  isLog = event.target.checked
  drawCurves()
})
addEventListener('resize', () => state && drawCurves())

/** Show the run until it is over. quell sets the pace: it answers "next" when there is something to show. */
async function follow() {
  let failures = 0
  for (let what = 'state'; ; what = 'next') {
    try {
      const answer = await fetch(what)
      if (!answer.ok) throw new Error(answer.statusText)
      state = await answer.json()
      failures = 0
      await show()
    } catch {
      failures += 1
      if (state?.end.how) return
      if (failures >= TRIES) return lost()
      await new Promise((resolve) => setTimeout(resolve, TRY_AGAIN))
      continue
    }
    if (state.end.how) return fetch('seen').catch(() => {}) // so that quell need not wait any longer
  }
}

async function show() {
  byId('title').textContent = state.title
  byId('time').textContent = duration(state.seconds)
  showStatus()
  showEnd()
  drawCurves()
  list('stages', state.stages, (stage) => [stage.name, duration(stage.seconds)])
  const current = byId('stages').lastElementChild
  if (current && !state.end.how) current.setAttribute('aria-current', 'step')
  list('lines', state.lines, (line) => [line])
  await showSlice()
  document.body.dataset.end = state.end.how
}

function showStatus() {
  const { how, sentence } = state.end
  const stage = state.stages.at(-1)?.name ?? 'starting'
  const said = { done: 'The run is over: done.', stopped: `The run is over: ${sentence}`, failed: `The run failed: ${sentence}` }
  const status = byId('status')
  setText(status, said[how] ?? stage)
  status.className = how
  const doing = how ? null : state.doing
  byId('work').hidden = Boolean(how)
  if (doing) byId('bar').value = doing.done / doing.total
  else byId('bar').removeAttribute('value')
  const left = doing && doing.left !== null ? `, about ${duration(doing.left)} left` : ''
  byId('doing').textContent = doing ? `${doing.task}: ${doing.done} of ${doing.total}${left}` : ''
  const share = doing ? `${Math.floor((100 * doing.done) / doing.total)} % ` : ''
  document.title = `${how || share + stage}: ${state.title}`
}

function showEnd() {
  const isDone = state.end.how === 'done'
  byId('end').hidden = !isDone
  if (!isDone) return
  const { level, sentence } = state.verdict
  byId('verdict').hidden = !sentence
  byId('verdict').textContent = sentence
  byId('verdict').className = level
  byId('results').replaceChildren(...state.results.flatMap(({ name, path }) => [text('dt', name), text('dd', path)]))
}

async function showSlice() {
  const slice = state.slice
  byId('slice').hidden = !slice
  if (!slice) return
  byId('slice-text').textContent = `Volume ${slice.volume}, slice ${slice.z}, both counted from 0. ` +
    'Anatomy does not belong into what is taken away.'
  if (slice.number === shown) return
  const names = slice.when ? ['noisy', 'denoised', 'residual'] : ['noisy']
  await Promise.all(names.map((name) => load(name, slice)))
  if (slice.when) byId('when').textContent = slice.when
  shown = slice.number
  document.body.dataset.picture = shown
}

/** Show a picture once it is there; the old one stays until then. */
async function load(name, slice) {
  const image = byId(name)
  if (name === 'noisy' && image.src) return
  image.src = `${name}/${slice.number}`
  image.style.aspectRatio = slice.aspect
  await image.decode()
  image.hidden = false
  image.parentElement.querySelector('.blank')?.remove()
}

function drawCurves() {
  const curves = state.curves.filter((curve) => curve.steps.length)
  byId('curves').hidden = !curves.length
  if (!curves.length) return
  const isPossible = curves.some((curve) => canBeLog(curve.losses))
  byId('log').disabled = !isPossible
  byId('log').checked = isPossible && (isLog ?? curves.some((curve) => isLogBetter(curve.losses)))
  const charts = byId('charts')
  while (charts.children.length < curves.length) {
    const chart = document.createElement('div')
    chart.append(text('h3', ''), document.createElement('div'))
    charts.append(chart)
  }
  curves.forEach((curve, i) => {
    const [heading, parent] = charts.children[i].children
    heading.textContent = curve.task
    drawCurve(parent, curve, byId('log').checked && canBeLog(curve.losses), curve.task)
  })
}

/** quell no longer answers: it was killed, or the way to it is gone. */
function lost() {
  setText(byId('status'), 'quell does not answer any more: the run is over, or the connection is lost. This is what was last seen.')
  byId('status').className = 'stopped'
  byId('work').hidden = true
  byId('stages').lastElementChild?.removeAttribute('aria-current')
  document.title = `no answer: ${state?.title ?? 'quell'}`
  document.body.dataset.end = 'lost'
}

function list(id, items, words) {
  const rows = items.map((item) => {
    const row = document.createElement('li')
    row.append(...words(item).map((word) => text('span', word)))
    return row
  })
  byId(id).replaceChildren(...rows)
}

/** Set a text only where it changes: a screen reader says every change. */
function setText(element, words) {
  if (element.textContent !== words) element.textContent = words
}

function text(tag, words) {
  const element = document.createElement(tag)
  element.textContent = words
  return element
}

function duration(seconds) {
  const whole = Math.round(seconds)
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  if (h) return `${h} h ${m} min`
  return m ? `${m} min ${s} s` : `${s} s`
}
