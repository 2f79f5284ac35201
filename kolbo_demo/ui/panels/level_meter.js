// Shows the microphone's level while Gradio's recorder holds it. `element` is given by Gradio.
const devices = navigator.mediaDevices;
if (devices && !devices.measured) {
  devices.measured = true;
  const open = devices.getUserMedia.bind(devices);
  devices.getUserMedia = async (wanted) => {
    const stream = await open(wanted);
    if (stream.getAudioTracks().length) watch(stream);
    return stream;
  };
}

function watch(stream) {
  const meter = element.querySelector('.level');
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(analyser);
  const wave = new Float32Array(analyser.fftSize);
  meter.hidden = false;
  const timer = setInterval(() => {
    if (stream.getAudioTracks().every((track) => track.readyState === 'ended')) {
      clearInterval(timer);
      context.close();
      meter.hidden = true;
      return;
    }
    analyser.getFloatTimeDomainData(wave);
    const power = wave.reduce((sum, value) => sum + value * value, 0) / wave.length;
    const decibels = 10 * Math.log10(power + 1e-9);
    const level = Math.round(Math.min(Math.max((decibels + 60) / 60, 0), 1) * 100);
    meter.firstElementChild.style.width = `${level}%`;
    meter.classList.toggle('hot', decibels > -6);
    meter.setAttribute('aria-valuenow', level);
  }, 80);
}
