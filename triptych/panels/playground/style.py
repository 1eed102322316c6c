"""The Playground's own style: what the common look does not have."""

CSS = """
.maybe { padding: 0 !important; }
.maybe:not(:has(p)):not(:has(aside)):not(:has(section)):not(:has(h3)) { display: none !important; }
.gradio-container input[type=checkbox] { border: 1px solid var(--body-text-color-subdued); }
table.plain { border: 0 !important; }
.answers { display: grid; gap: .8rem; grid-template-columns: minmax(0, 1fr); }
@media (min-width: 640px) {
  .answers:not(.of1) { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media (min-width: 1000px) {
  .answers.of3 { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .answers.of4 { grid-template-columns: repeat(4, minmax(0, 1fr)); }
}
.answer { border: 1px solid var(--border-color-primary); border-top: 3px solid #b4532a;
          border-radius: .35rem; background: var(--background-fill-primary);
          padding: .7rem .9rem .6rem; display: flex; flex-direction: column; min-width: 0; }
.answer:nth-child(2) { border-top-color: #2a6f97; }
.answer:nth-child(3) { border-top-color: #5b8c3a; }
.answer:nth-child(4) { border-top-color: #8a4fa3; }
.answer.chosen { box-shadow: 0 0 0 2px #b4532a; }
.answer h3 { margin: 0 0 .5rem; font-size: .95rem; display: flex; gap: .5rem;
             align-items: baseline; overflow-wrap: anywhere; }
.answer .letter { font-size: .75rem; font-weight: 600; padding: 0 .4rem; border-radius: .25rem;
                  border: 1px solid var(--border-color-primary); }
.answer .best { margin-left: auto; white-space: nowrap; font-size: .75rem; font-weight: 600;
                color: var(--link-text-color); }
.answer .text { white-space: pre-wrap; overflow-wrap: anywhere; flex: 1; min-height: 5rem;
                line-height: 1.55; max-height: 32rem; overflow-y: auto; }
.answer .text > i { color: var(--body-text-color-subdued); font-style: normal; }
.answer .caret { display: inline-block; width: .5ch; height: 1em; vertical-align: text-bottom;
                 background: #b4532a; animation: caret 1s steps(2) infinite; }
@keyframes caret { 50% { opacity: 0; } }
@media (prefers-reduced-motion: reduce) { .answer .caret { animation: none; } }
.answer .foot { font-size: .78rem; color: var(--body-text-color-subdued); margin-top: .6rem;
                padding-top: .4rem; border-top: 1px solid var(--border-color-primary); }
.answer .figures { margin: 0 0 .2rem; gap: .2rem 1.1rem; }
.answer .figures b { font-size: .95rem; color: var(--body-text-color); }
.answer .figures span { font-size: .72rem; }
.answer .foot { display: flex; flex-wrap: wrap; gap: .1rem .9rem; justify-content: space-between; }
.answer .figures { flex-basis: 100%; }
.refused { color: #9c2a1f; margin: 0; white-space: pre-wrap; }
.dark .refused { color: #f2938c; }
.notice { margin: .2rem 0; padding: .4rem .8rem; border-left: 3px solid #b4532a; }
.scored { margin: .4rem 0 1.2rem; }
.tokens { position: relative; line-height: 2; white-space: pre-wrap; overflow-wrap: anywhere;
          padding-bottom: .4rem; }
.tok { padding: .12rem 0; border-radius: .15rem; }
.tok:hover, .tok:focus { outline: 2px solid #b4532a; }
.tok .tip { display: none; position: absolute; z-index: 5; left: var(--tip-x, 0);
            top: var(--tip-y, 100%);
            width: min(20rem, 100%); padding: .5rem .8rem; line-height: 1.5; font-size: .85rem;
            white-space: normal; border: 1px solid var(--border-color-primary);
            border-radius: .35rem; background: var(--background-fill-primary);
            box-shadow: 0 4px 14px rgba(0, 0, 0, .18); }
.tok:hover .tip, .tok:focus .tip { display: block; }
.tokens:hover .tok:focus:not(:hover) .tip { display: none; }
.tip ol { list-style: none; margin: .3rem 0 0; padding: 0; }
.tip li { position: relative; padding: 0 .3rem; margin: .12rem 0; }
.tip li i { position: absolute; inset: 0 auto 0 0; background: rgba(180, 83, 42, .22);
            border-radius: .15rem; }
.tip li > code { position: relative; white-space: pre; }
.tip li.here { font-weight: 600; }
.rates caption { text-align: left; font-size: .85rem; color: var(--body-text-color-subdued); }
.interval { position: relative; display: inline-block; width: 9rem; height: .7rem;
            margin-right: .6rem; vertical-align: middle; border-radius: .2rem;
            background: linear-gradient(90deg, transparent calc(50% - .5px),
              var(--body-text-color-subdued) 0 calc(50% + .5px), transparent 0),
              var(--border-color-primary); }
.interval i { position: absolute; top: .2rem; height: .3rem; border-radius: .15rem;
              background: #cc7c55; }
.interval b { position: absolute; top: 0; width: 3px; height: .7rem; margin-left: -1.5px;
              background: #b4532a; }
.picks { display: flex; flex-direction: column; gap: .35rem; }
.picks button { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .1rem 1rem;
                text-align: left; padding: .45rem .8rem; border-radius: .3rem; cursor: pointer;
                border: 1px solid var(--border-color-primary); overflow-wrap: anywhere;
                background: var(--background-fill-primary); color: var(--body-text-color); }
.picks button:hover, .picks button:focus-visible { border-color: #b4532a; outline: none; }
.picks b { font-weight: 600; white-space: pre-wrap; }
.picks span { font-size: .82rem; color: var(--body-text-color-subdued); }
.pick { cursor: pointer; outline: none; }
.pick:hover circle:last-of-type, .pick:focus circle:last-of-type { stroke-width: 4; }
.lesson { border-left: 3px solid #2a6f97; padding: .5rem .9rem; margin: .3rem 0;
          background: var(--background-fill-primary); border-radius: 0 .35rem .35rem 0; }
.lesson h3 { margin: 0 0 .2rem; font-size: 1rem; } .lesson p { margin: 0; }
.lesson ul { margin: .5rem 0 0; padding-left: 1.2rem; }
.voting button { min-width: 5rem; }
h1 small { font-size: .95rem; font-weight: 400; color: var(--body-text-color-subdued);
           margin-left: .6rem; }
.asking textarea { line-height: 1.45; }
@media (max-width: 640px) {
  .top { order: -3; }
  .result { order: -2; }
  .voting { order: -1; }
}
"""
