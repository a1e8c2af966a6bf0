/**
 * What keeps an open page up to date: it asks for itself every two seconds and changes only what differs, so that focus, selection,
 * opened details and the reader's place stay. Runs in the browser; the page is whole without it.
 */
export const script = `'use strict'
const every = 2000
const news = document.getElementById('news')
const button = document.createElement('button')
let paused = false
button.type = 'button'
button.id = 'pause'
button.setAttribute('aria-pressed', 'false')
button.textContent = 'Pause updates'
button.addEventListener('click', () => {
  paused = !paused
  button.setAttribute('aria-pressed', String(paused))
})
document.getElementById('updates').append(button)

function tell(text) {
  if (news.textContent !== text) news.textContent = text
}

function follow(old, now) {
  if (old.isEqualNode(now)) return
  if (old.nodeName !== now.nodeName) return old.replaceWith(document.importNode(now, true))
  if (old.nodeType !== Node.ELEMENT_NODE) return void (old.nodeValue = now.nodeValue)
  for (const { name } of [...old.attributes]) if (!now.hasAttribute(name) && name !== 'open') old.removeAttribute(name)
  for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value)
  const wanted = new Set([...now.children].map(child => child.id).filter(Boolean))
  for (const child of [...old.children]) if (child.id && !wanted.has(child.id)) child.remove()
  let place = old.firstChild
  for (const child of now.childNodes) {
    const same = child.id ? [...old.children].find(other => other.id === child.id) : place && !place.id ? place : null
    if (!same) old.insertBefore(document.importNode(child, true), place)
    else {
      if (same !== place) old.insertBefore(same, place)
      const next = same.nextSibling
      follow(same, child)
      place = next
    }
  }
  while (place) {
    const next = place.nextSibling
    place.remove()
    place = next
  }
}

async function update() {
  if (paused || document.hidden) return
  try {
    const answer = await fetch(location.pathname, { headers: { accept: 'text/html' }, signal: AbortSignal.timeout(8000) })
    if (answer.status === 401) return location.reload()
    if (!answer.ok) return tell('Not up to date: the database does not answer. Trying again.')
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
    document.title = page.title
    follow(document.querySelector('main'), page.querySelector('main'))
    tell('')
  } catch {
    tell('Not up to date: Pawl does not answer. Trying again.')
  }
}

async function turn() {
  await update()
  setTimeout(turn, every)
}
document.addEventListener('visibilitychange', update)
setTimeout(turn, every)
`
