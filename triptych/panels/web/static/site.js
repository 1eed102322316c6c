// What every page does beside htmx: glossary terms on touch and keyboard, messages brought into view.
'use strict';

document.addEventListener('click', event => {
  const button = event.target.closest('.term > button');
  for (const open of document.querySelectorAll('.term.open')) {
    if (!button || open !== button.parentElement) open.classList.remove('open');
  }
  if (button) button.parentElement.classList.toggle('open');
});

document.addEventListener('keydown', event => {
  if (event.key === 'Escape') {
    for (const open of document.querySelectorAll('.term.open')) open.classList.remove('open');
    for (const shown of document.querySelectorAll('.term:hover, .term:focus-within')) {
      shown.classList.add('shut');
      for (const left of ['pointerleave', 'focusout', 'click']) {
        shown.addEventListener(left, () => shown.classList.remove('shut'), {once: true});
      }
    }
  }
  // Enter sends a chat message, Shift+Enter is a new line.
  const area = event.target.closest?.('textarea[data-enter-sends]');
  if (area && event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    area.form.requestSubmit();
  }
});

// A row is one large target; its link is what the keyboard reaches.
document.addEventListener('click', event => {
  const row = event.target.closest('tr.link');
  if (row && !event.target.closest('a,button,input') && !getSelection().toString()) {
    row.querySelector('a').click();
  }
});

// The first error of a form receives the focus, so that it is seen and read out.
document.addEventListener('htmx:after:swap', () => {
  document.querySelector('[aria-invalid=true]')?.focus();
  // A button that was swapped away leaves the keyboard nowhere: a chat goes on in its own field.
  if (document.activeElement === document.body && matchMedia('(hover: hover)').matches) {
    document.querySelector('.composer textarea')?.focus({preventScroll: true});
  }
});

document.addEventListener('submit', event => {
  const reset = event.target.closest('form[data-clear]');
  if (reset) setTimeout(() => reset.reset());
});

// On a phone the menu is one line that scrolls: the page one is on comes into view.
document.querySelector('nav.menu [aria-current]')?.scrollIntoView({inline: 'center', block: 'nearest'});
