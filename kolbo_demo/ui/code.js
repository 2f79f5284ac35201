// Puts the programs into place as text, and copies the one that is seen. `element`, `props` and
// `watch` are given by Gradio.
const panel = element.querySelector('#code');
const chosen = () => panel.querySelector('input:checked').value;
const program = (name) => panel.querySelector(`[data-code="${name}"]`);

function choose() {
  for (const each of panel.querySelectorAll('[data-code]')) each.hidden = each !== program(chosen());
}

watch('written', () => {
  for (const [name, text] of Object.entries(props.written.programs)) program(name).textContent = text;
  panel.querySelector('.notes').innerHTML = props.written.notes;
});

panel.addEventListener('change', choose);
panel.querySelector('button').addEventListener('click', async ({ currentTarget: button }) => {
  const text = program(chosen());
  getSelection().selectAllChildren(text); // to be copied by hand where the browser forbids it
  await navigator.clipboard.writeText(text.textContent);
  const before = button.textContent;
  button.textContent = button.dataset.copied;
  setTimeout(() => { button.textContent = before; }, 2000);
});
choose();
