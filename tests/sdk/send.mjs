// Sends one of everything with Amplitude's Node SDK, and prints what it was told of each event.
// `node send.mjs URL API_KEY`; prints a JSON array of `[event_type, code]`.

import {
  Identify,
  Revenue,
  groupIdentify,
  identify,
  init,
  flush,
  revenue,
  setGroup,
  track,
} from '@amplitude/analytics-node';

const [url, apiKey] = process.argv.slice(2);
const person = { user_id: 'user-of-the-sdk', device_id: 'device-of-the-sdk' };

await init(apiKey, {
  serverUrl: url,
  flushIntervalMillis: 100,
  logLevel: 0,
  plan: { branch: 'main', source: 'web', version: '3' },
  ingestionMetadata: { sourceName: 'tests', sourceVersion: '1' },
}).promise;

const sent = [
  track(
    'Opened',
    { screen: 'höme 👋', depth: { of: [1, 2.5, true] } },
    {
      ...person,
      time: 1767261906412,
      user_properties: { plan: 'free' },
      app_version: '1.2.3',
      platform: 'Server',
      os_name: 'Linux',
      language: 'de',
      country: 'Germany',
      location_lat: 52.5,
      location_lng: 13.4,
      session_id: 1767261900000,
      ip: '$remote',
    },
  ),
  identify(new Identify().set('plan', 'paid').add('visits', 1), person),
  groupIdentify('company', 'Acme', new Identify().set('seats', 12), person),
  setGroup('company', 'Acme', person),
  revenue(
    new Revenue().setPrice(9.99).setQuantity(2).setProductId('book').setRevenueType('income'),
    person,
  ),
  track('Bad', {}, { user_id: 'bob' }),
];

const results = await Promise.all(sent.map((each) => each.promise));
const told = results.map((result) => [result.event.event_type, result.code]).sort();
console.log(JSON.stringify(told));
