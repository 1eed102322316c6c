// Follow the logs of a Space; a line is added as text, never as HTML.
for (const box of document.querySelectorAll("[data-follow]")) {
  const source = new EventSource(box.dataset.follow);
  source.onmessage = (event) => {
    const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 40;
    box.append(JSON.parse(event.data).data.replace(/\n?$/, "\n"));
    if (atEnd) box.scrollTop = box.scrollHeight;
  };
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) box.append("(the log has ended)\n"); };
}
